"""The rows of the results table: commands that exist, and lines of finished runs alone."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from benchmarks.studies.results import ROWS, Row, results, results_table
from ride import command_line
from ride import main as ride
from training.checkpoint import Position, Stage, save_checkpoint
from training.checks import check_config
from training.config import TrainingConfig
from training.data import Split, read_split
from training.evaluate_session import evaluate_session
from training.loop import new_checkpoint
from training.presets import preset

ORIGIN = {"commit": "abc123", "started": "2026-01-31", "machine": "a machine"}
FIRST = ROWS[0]


def config_of(
    row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> TrainingConfig:
    """What the row's command would train."""
    _, *command = row.command("DATA", "RUNS")
    monkeypatch.setattr(sys, "argv", ["ride", *command, "--show-config"])
    with pytest.raises(SystemExit) as ended:
        ride()
    assert not ended.value.code, capsys.readouterr().err
    return TrainingConfig.from_dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_command_of_a_row_is_one(
    row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(row, monkeypatch, capsys)
    check_config(config)
    assert config.preset in row.flags
    if row.name.partition("-seed-")[2]:
        assert str(config.seed) == row.name.partition("-seed-")[2]


@pytest.mark.parametrize("row", [row for row in ROWS if row.route], ids=lambda row: row.name)
def test_thresholds_are_chosen_by_flags_of_ride_route(row: Row) -> None:
    commands = typer.main.get_command(command_line())
    assert isinstance(commands, typer.core.TyperGroup)
    arguments = ["RUN", "--data", "DATA", *row.route]
    assert commands.commands["route"].make_context("route", arguments).params["run"] == Path("RUN")


def test_every_row_has_a_name_and_a_command_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({row.flags for row in ROWS}) == len(ROWS)


def test_the_commands_of_all_rows_are_listed() -> None:
    listed = dict(line.split(": ", 1) for line in results(only_list=True))
    assert list(listed) == [row.name for row in ROWS]
    for row in ROWS:
        assert shlex.split(listed[row.name]) == row.command("DATA", "runs")


def write_run(run: Path, data: Path, stage: Stage) -> None:
    """A run of one expert and seed 5 that stands at a stage."""
    config = preset("cifar10-lt").with_settings(
        ["seed=5", "data.imbalance_factor=4", "model.num_experts=1"]
    )
    checkpoint = new_checkpoint(config, read_split(data, config.data, Split.TRAIN), dict(ORIGIN))
    checkpoint.position = Position(stage)
    run.mkdir()
    save_checkpoint(checkpoint, run)


def evaluate(run: Path, data: Path) -> None:
    evaluate_session(
        run,
        data=data,
        device="cpu",
        as_json=False,
        predictions=None,
        report=None,
        workers=0,
        save=True,
        console=Console(quiet=True),
    )


def test_a_finished_run_has_its_line(cifar10_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / FIRST.name
    write_run(run, cifar10_folder, Stage.DONE)
    evaluate(run, cifar10_folder)
    measured = json.loads((run / "evaluation.json").read_bytes())["routed"]
    _, _, line = results_table(tmp_path).splitlines()
    name, routed, whole, experts, cost, published, *rest = line.strip("| ").split(" | ")
    assert name == FIRST.name
    accuracy = measured["accuracy"]
    assert routed == whole == f"{100 * accuracy['overall']:.1f} (none / none / {_few(accuracy)})"
    assert experts == "1.00"
    assert cost == f"{measured['mean_multiply_adds'] / 1e6:.1f}"
    assert published == FIRST.published
    assert rest == ["5", "abc123", "2026-01-31", "a machine"]


def _few(accuracy: dict[str, float]) -> str:
    """Every class has fewer than 20 images."""
    return f"{100 * accuracy['few']:.1f}"


@pytest.mark.parametrize("stage", [Stage.EXPERTS, Stage.ROUTERS, Stage.DONE])
def test_a_run_that_is_not_finished_and_measured_has_none(
    cifar10_folder: Path, tmp_path: Path, stage: Stage
) -> None:
    write_run(tmp_path / FIRST.name, cifar10_folder, stage)
    assert len(results_table(tmp_path).splitlines()) == 2


def test_what_was_measured_before_training_began_anew_does_not_count(
    cifar10_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / FIRST.name
    write_run(run, cifar10_folder, Stage.DONE)
    evaluate(run, cifar10_folder)
    (run / "checkpoint.pt").rename(tmp_path / "old.pt")
    write_run(tmp_path / "other", cifar10_folder, Stage.EXPERTS)
    (tmp_path / "other" / "checkpoint.pt").rename(run / "checkpoint.pt")
    assert len(results_table(tmp_path).splitlines()) == 2
