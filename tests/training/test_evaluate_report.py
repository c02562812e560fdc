"""`ride evaluate --report` as a user runs it, on runs that have learnt nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.model.manifest import GEARS
from tests.training.outcome import Outcome
from training.checkpoint import Checkpoint, Position, Stage, save_checkpoint
from training.choices import RouterKind
from training.config import ModelConfig, TrainingConfig
from training.data import Split, read_split
from training.evaluate_report import ReportRequest, plan_report
from training.loop import new_checkpoint
from training.presets import preset

pytestmark = pytest.mark.usefixtures("short_networks")

Evaluate = Callable[..., Outcome]


def config_of(*, seed: int = 0, experts: int = 2, imbalance: float | None = 4.0) -> TrainingConfig:
    base = preset("cifar10-lt")
    model = ModelConfig(
        num_classes=10,
        num_experts=experts,
        router_kind=RouterKind.MARGIN,
        router_top_logits=10,
    )
    data = replace(base.data, imbalance_factor=imbalance)
    return replace(base, model=model, data=data, seed=seed)


def finished(config: TrainingConfig, data: Path) -> Checkpoint:
    checkpoint = new_checkpoint(config, read_split(data, config.data, Split.TRAIN), {})
    checkpoint.position = Position(Stage.DONE)
    return checkpoint


def saved(checkpoint: Checkpoint, run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, run)
    return run


@pytest.fixture(scope="module")
def runs(cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the seeds 0, 1 and 2, named after them; two experts each."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        saved(finished(config_of(seed=seed), cifar10_folder), folder / f"seed{seed}")
    return folder


@pytest.fixture
def evaluate(
    cifar10_folder: Path, call_ride: Callable[..., subprocess.CompletedProcess[str]]
) -> Evaluate:
    """Runs the command in this process, where torch is already imported."""

    def run(*arguments: object) -> Outcome:
        flags = ("--data", cifar10_folder, "--device", "cpu", "--workers", 0)
        done = call_ride("evaluate", *arguments, *flags)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def numbers(report: Path) -> Any:
    return json.loads((report / "report.json").read_text())


def test_a_report_shows_the_run_its_baseline_and_its_repeats(
    evaluate: Evaluate, runs: Path, tmp_path: Path
) -> None:
    report, predictions = tmp_path / "report", tmp_path / "predictions.parquet"
    done = evaluate(
        *(runs / "seed0", "--report", report, "--predictions", predictions),
        *("--baseline", runs / "seed1", "--repeat", runs / "seed2"),
    )
    assert (done.status, done.stderr) == (0, "")
    assert f"Report: {report / 'index.html'}" in done.stdout
    found = numbers(report)
    evaluated = json.loads((runs / "seed0" / "evaluation.json").read_text())
    names = [(each["name"], each["answer"]) for each in found["summaries"]]
    answers = ("routed", "all experts")
    assert names == [(name, answer) for name in ("seed0", "seed1") for answer in answers]
    for summary, answer in zip(found["summaries"][:2], ("routed", "all_experts"), strict=True):
        expected = evaluated[answer]["accuracy"]
        assert summary["accuracy"] == {
            group: share for group, share in expected.items() if share is not None
        }
        assert summary["multiply_adds"] == evaluated[answer]["mean_multiply_adds"]
    assert found["stopped_after"]["overall"] == evaluated["routed"]["stopped_after"]
    assert found["repeated_runs"] == 2
    assert found["spread"]["overall"]["variance"] > 0
    curves = [curve["name"] for curve in found["curves"]]
    kinds = [str(kind) for kind in RouterKind if kind is not RouterKind.RIDE]
    assert curves == [*kinds, "random", "oracle"]
    page = (report / "index.html").read_text()
    assert all(name in page for name in (*curves, "seed0", "seed1", "airplane", "truck"))


def with_gears(checkpoint: Checkpoint) -> Checkpoint:
    """As `ride route` leaves it, but for measurements that nobody made."""
    gear = {
        "mean_experts": 1.0,
        "mean_multiply_adds": 1.0,
        "accuracy": {"overall": 0.0, "many": None, "medium": None, "few": None},
        "measured_on": "other images",
    }
    thresholds = zip(GEARS, (1.0, 0.5, 0.0), strict=True)
    gears = {name: {**gear, "thresholds": [threshold]} for name, threshold in thresholds}
    checkpoint.routing = {"thresholds": [0.5], "gears": gears}
    return checkpoint


def test_without_calibration_images_there_are_gears_and_the_page_says_why_no_curves(
    evaluate: Evaluate, cifar10_folder: Path, tmp_path: Path
) -> None:
    checkpoint = with_gears(finished(config_of(imbalance=None), cifar10_folder))
    run, report = saved(checkpoint, tmp_path / "run"), tmp_path / "report"
    done = evaluate(run, "--report", report)
    assert done.status == 0
    reason = "cifar10 has no images to choose thresholds on: set a holdout"
    assert reason in done.stdout
    page = (report / "index.html").read_text()
    assert f"There are no curves of routers: {reason}" in page
    assert numbers(report)["curves"] == []
    points = numbers(report)["operating_points"]
    assert list(points) == ["as evaluated", *(f"gear {name}" for name in GEARS)]
    assert all(name in page for name in points)
    assert points["gear fast"]["mean_experts"] == 1
    assert points["gear full"]["mean_experts"] == 2
    assert points["gear balanced"] == points["as evaluated"]


def test_one_expert_has_no_curves_and_json_stays_json(
    evaluate: Evaluate, cifar10_folder: Path, tmp_path: Path
) -> None:
    run = saved(finished(config_of(experts=1), cifar10_folder), tmp_path / "run")
    done = evaluate(run, "--json", "--report", tmp_path / "report")
    assert json.loads(done.stdout)["images"] == 30
    assert done.stderr == f"Report: {tmp_path / 'report' / 'index.html'}\n"
    page = (tmp_path / "report" / "index.html").read_text()
    assert "There are no curves of routers: a model of one expert has nothing to route." in page


def test_runs_of_the_same_name_are_told_apart(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(runs / "seed0", tmp_path / "seed0"))
    monkeypatch.chdir(runs / "seed0")
    report = tmp_path / "report"
    plan = plan_report(Path(), ReportRequest(report, [other, runs / "seed1"]))
    assert plan.run.name == "."
    assert [each.name for each in plan.baselines] == [str(other), "seed1"]
    assert plan_report(Path(), ReportRequest(report)).run.name == "seed0"


def assert_refused(done: Outcome, report: Path, *said: str) -> None:
    """One sentence before anything was measured, and no report."""
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.startswith("ride: ")
    assert done.stderr.count("\n") == 1
    assert all(words in done.stderr for words in said)
    assert not (report / "index.html").exists()


@pytest.mark.parametrize("flag", ["--baseline", "--repeat"])
def test_a_run_of_another_data_set_is_refused(
    evaluate: Evaluate, runs: Path, cifar10_folder: Path, tmp_path: Path, flag: str
) -> None:
    other = finished(config_of(), cifar10_folder)
    other.config = replace(other.config, data=preset("cifar100-lt").data)
    saved(other, tmp_path / "other")
    done = evaluate(runs / "seed0", flag, tmp_path / "other", "--report", tmp_path / "report")
    assert_refused(done, tmp_path / "report", str(tmp_path / "other"), "cifar100", "cifar10:")


def test_a_run_of_other_classes_is_refused(
    evaluate: Evaluate, runs: Path, cifar10_folder: Path, tmp_path: Path
) -> None:
    other = finished(config_of(), cifar10_folder)
    other.class_names = ("zebra", *other.class_names[1:])
    saved(other, tmp_path / "other")
    done = evaluate(
        runs / "seed0", "--baseline", tmp_path / "other", "--report", tmp_path / "report"
    )
    assert_refused(done, tmp_path / "report", "other", "knows other classes")


def test_a_foreign_folder_is_refused(evaluate: Evaluate, runs: Path) -> None:
    done = evaluate(runs / "seed0", "--report", runs)
    assert_refused(done, runs, str(runs), "name another folder")


def test_an_unfinished_baseline_is_refused(
    evaluate: Evaluate, runs: Path, cifar10_folder: Path, tmp_path: Path
) -> None:
    other = finished(config_of(), cifar10_folder)
    other.position = Position()
    saved(other, tmp_path / "other")
    done = evaluate(
        runs / "seed0", "--baseline", tmp_path / "other", "--report", tmp_path / "report"
    )
    assert_refused(done, tmp_path / "report", "other", "not finished")


def test_a_checkpoint_without_its_folder_is_refused(
    evaluate: Evaluate, runs: Path, tmp_path: Path
) -> None:
    file = runs / "seed0" / "checkpoint.pt"
    done = evaluate(file, "--report", tmp_path / "report")
    assert_refused(done, tmp_path / "report", "name the run's folder")


def test_a_baseline_without_a_report_is_refused(
    evaluate: Evaluate, runs: Path, tmp_path: Path
) -> None:
    done = evaluate(runs / "seed0", "--baseline", runs / "seed1")
    assert_refused(done, tmp_path, "--report")
