"""`ride route` from a finished run to a checkpoint that remembers what was chosen."""

from __future__ import annotations

import io
import itertools
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from serving.model.manifest import GEARS
from serving.model.manifest_json import parse_gears
from tests.training.test_calibration import costs_of
from training.calibration import class_balanced_weights
from training.checkpoint import (
    Checkpoint,
    Position,
    Stage,
    checkpoint_digest,
    load_checkpoint,
    load_finished,
    save_checkpoint,
)
from training.choices import RouterKind
from training.config import ModelConfig
from training.data import ImageSet, Split, read_split
from training.errors import CheckpointError, ConfigError
from training.loop import new_checkpoint
from training.outputs import Outputs, load_outputs
from training.presets import preset
from training.route import data as module
from training.route.adjustment import best_prior_adjustment
from training.route.candidates import Budget
from training.route.comparison import BUDGETS, PrefixPredictions, ScoredRouter, compare, draw
from training.route.images import route_images
from training.route.session import route_session
from training.routers.baselines import oracle_scores, random_scores

pytestmark = pytest.mark.usefixtures("short_networks")


def config_of(experts: int) -> Any:
    base = preset("cifar10-lt")
    model = ModelConfig(num_classes=10, num_experts=experts, router_top_logits=10)
    return replace(base, model=model, data=replace(base.data, imbalance_factor=4.0))


@pytest.fixture(scope="module")
def finished(cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two experts that have learnt nothing, with their outputs kept."""
    folder = tmp_path_factory.mktemp("routed") / "run"
    folder.mkdir()
    config = config_of(2)
    data = read_split(cifar10_folder, config.data, Split.TRAIN)
    checkpoint = new_checkpoint(config, data, {})
    checkpoint.position = Position(Stage.DONE)
    save_checkpoint(checkpoint, folder)
    route(folder, cifar10_folder, save=False)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def route(run: Path, data: Path, **changes: Any) -> str:
    """What it said."""
    said = io.StringIO()
    settings: dict[str, Any] = {
        "router": None,
        "budget": Budget(),
        "prior_adjustment": 0.0,
        "with_comparison": False,
        "save": True,
        "workers": 0,
        "device": "cpu",
    }
    console = Console(file=said, width=200)
    route_session(run, data=data, console=console, **{**settings, **changes})
    return said.getvalue()


@pytest.mark.parametrize("kind", RouterKind)
def test_the_chosen_router_is_in_the_checkpoint(
    run: Path, cifar10_folder: Path, kind: RouterKind
) -> None:
    before = load_finished(run)
    said = route(run, cifar10_folder, router=kind, budget=Budget(mean_experts=1.5))
    assert said.startswith(f"{kind}, thresholds ")
    assert f"Next: ride evaluate {run} --data {cifar10_folder}" in said
    after = load_finished(run)
    assert after.config == replace(
        before.config, model=replace(before.config.model, router_kind=kind)
    )
    model = after.build_model()
    for name, weights in before.build_model().experts.state_dict().items():
        assert torch.equal(model.experts.state_dict()[name], weights)
    assert after.thresholds == tuple(after.routing["thresholds"])
    assert len(after.thresholds) == 1
    assert "long-tailed subset" in after.routing["chosen_on"]
    gears = parse_gears(after.routing["gears"])
    assert tuple(gears) == GEARS
    assert gears["full"].thresholds == (0.0,)
    assert gears["full"].mean_experts == 2
    costs = [gears[name].mean_experts for name in GEARS]
    assert all(left <= right for left, right in itertools.pairwise(costs))
    assert gears["fast"].measured_on == "30 test images of cifar10"


def test_the_prior_is_taken_out_of_every_answer(run: Path, cifar10_folder: Path) -> None:
    said = route(run, cifar10_folder, router=RouterKind.MARGIN, prior_adjustment=None)
    checkpoint = load_finished(run)
    strength = checkpoint.prior_adjustment
    assert said.startswith(f"Prior adjustment: {strength:g}.")
    prior = np.array(checkpoint.class_counts) / sum(checkpoint.class_counts)
    corrections = checkpoint.prefix_corrections().numpy()
    np.testing.assert_allclose(corrections, -strength * np.log([prior, prior]), rtol=1e-6)


def test_the_best_prior_adjustment_is_found(run: Path) -> None:
    """Experts that know the class, and lean to common ones by 0.6 of the log prior."""
    checkpoint = load_finished(run)
    prior = np.array(checkpoint.class_counts) / sum(checkpoint.class_counts)
    labels = np.repeat(np.arange(10), 2_000)
    evidence = np.random.default_rng(0).normal(size=(2, len(labels), 10))
    evidence[:, np.arange(len(labels)), labels] += 2
    logits = (evidence + 0.6 * np.log(prior)).astype(np.float32)
    outputs = Outputs(logits, np.zeros((2, len(labels), 1), dtype=np.float32), labels)
    assert best_prior_adjustment(checkpoint, outputs) == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize("strength", [math.inf, math.nan])
def test_a_damaged_prior_adjustment_is_refused(run: Path, strength: float) -> None:
    checkpoint = load_finished(run)
    checkpoint.routing["prior_adjustment"] = strength
    save_checkpoint(checkpoint, run)
    with pytest.raises(CheckpointError, match="must be a finite number"):
        load_finished(run)


def test_what_was_chosen_is_the_same_each_time(run: Path, cifar10_folder: Path) -> None:
    route(run, cifar10_folder, router=RouterKind.DIFFERENCE)
    digest = checkpoint_digest(run)
    route(run, cifar10_folder, router=RouterKind.DIFFERENCE)
    assert checkpoint_digest(run) == digest


def test_the_budget_holds_on_the_calibration_images(run: Path, cifar10_folder: Path) -> None:
    for budget in (1.0, 1.4):
        route(run, cifar10_folder, router=RouterKind.MARGIN, budget=Budget(mean_experts=budget))
        checkpoint = load_finished(run)
        images = route_images(cifar10_folder, checkpoint.config, checkpoint.class_names).calibration
        labels = np.concatenate([labels.numpy() for _, labels in images.batches()])
        with np.load(run / "outputs-calibration.npz") as kept:
            first = kept["logits"][0].astype(np.float64)
        p = np.sort(np.exp(first) / np.exp(first).sum(axis=1, keepdims=True), axis=1)
        further = 1 - (p[:, -1] - p[:, -2]) > checkpoint.thresholds[0]
        assert 1 + np.average(further, weights=class_balanced_weights(labels)) <= budget + 1e-6


def test_without_saving_the_checkpoint_stays_as_it_was(run: Path, cifar10_folder: Path) -> None:
    digest = checkpoint_digest(run)
    assert "Saved" not in route(run, cifar10_folder, router=RouterKind.ENTROPY, save=False)
    assert checkpoint_digest(run) == digest


def test_the_experts_run_only_once(
    run: Path, cifar10_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "collect_outputs", lambda *_: pytest.fail("ran again"))
    route(run, cifar10_folder, router=RouterKind.MARGIN)


def test_outputs_of_other_weights_are_not_used(run: Path, cifar10_folder: Path) -> None:
    checkpoint = load_finished(run)
    checkpoint.model["experts.0.classifier.weight"][0] += 1
    save_checkpoint(checkpoint, run)
    with np.load(run / "outputs-test.npz") as kept:
        key = str(kept["key"])
    route(run, cifar10_folder, router=RouterKind.MARGIN)
    assert load_outputs(key, run / "outputs-test.npz") is None


def test_a_comparison_shows_every_router_and_draws_it(run: Path, cifar10_folder: Path) -> None:
    said = route(run, cifar10_folder, with_comparison=True, save=False)
    for name in (*RouterKind, "random", "oracle", "1.76"):
        assert name in said
    drawn = (run / "curve.svg").read_text()
    assert "<svg" in drawn
    for name in (*RouterKind, "random", "oracle", "all experts", "mean experts"):
        assert name in drawn


def test_ride_routers_that_were_replaced_are_gone(run: Path, cifar10_folder: Path) -> None:
    route(run, cifar10_folder, router=RouterKind.ENTROPY)
    with pytest.raises(ConfigError, match="of the kind entropy; those of RIDE are trained by"):
        route(run, cifar10_folder, router=RouterKind.RIDE)
    said = route(run, cifar10_folder, budget=Budget(mean_experts=1.0), save=False)
    assert not said.startswith("ride")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"budget": Budget(mean_experts=0.5)}, "a mean of 0.5 can't be"),
        ({"budget": Budget(max_accuracy_drop=-100.0)}, "no thresholds of margin reach"),
    ],
)
def test_a_wish_that_can_not_be_met_is_refused(
    run: Path, cifar10_folder: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        route(run, cifar10_folder, router=RouterKind.MARGIN, **changes)


def test_two_wishes_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        Budget(mean_experts=1.5, max_accuracy_drop=0.3)


def test_a_single_expert_is_refused(run: Path, cifar10_folder: Path) -> None:
    old = load_finished(run)
    data = read_split(cifar10_folder, config_of(1).data, Split.TRAIN)
    checkpoint = replace(
        new_checkpoint(config_of(1), data, {}),
        position=old.position,
    )
    save_checkpoint(checkpoint, run)
    with pytest.raises(ConfigError, match="one expert has nothing to route"):
        route(run, cifar10_folder)


def test_a_checkpoint_without_its_folder_is_refused(run: Path, cifar10_folder: Path) -> None:
    with pytest.raises(ConfigError, match="name the run's folder"):
        route(run / "checkpoint.pt", cifar10_folder)


# The checkpoint's part


def test_a_checkpoint_of_before_routing_has_the_thresholds_of_its_configuration(run: Path) -> None:
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    del content["routing"]
    torch.save(content, run / "checkpoint.pt")
    checkpoint = load_checkpoint(run)
    assert checkpoint.routing == {}
    assert checkpoint.thresholds == (0.5,)


@pytest.mark.parametrize(
    "routing",
    [
        *([], "no", {"thresholds": None}, {"thresholds": []}, {"thresholds": [0.5, 0.5]}),
        *({"thresholds": ["0.5"]}, {"thresholds": [1.5]}, {"thresholds": [float("nan")]}),
    ],
)
def test_a_checkpoint_with_thresholds_that_make_no_sense_is_refused(
    run: Path, routing: Any
) -> None:
    checkpoint: Checkpoint = load_finished(run)
    checkpoint.routing = routing
    save_checkpoint(checkpoint, run)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(run)


# The images


def test_images_to_calibrate_on_were_not_trained_on(
    cifar10_folder: Path,
) -> None:
    config = config_of(2)
    images = route_images(cifar10_folder, config, ())
    train = read_split(cifar10_folder, config.data, Split.TRAIN)
    assert isinstance(train, ImageSet)
    trained = {image.numpy().tobytes() for image in train.images}

    def pixels(batches: Any) -> Iterator[bytes]:
        for batch, _ in batches():
            yield from (image.numpy().tobytes() for image in batch)

    calibration = set(pixels(images.calibration.batches))
    assert calibration
    assert not calibration & trained
    views = list(pixels(images.views.batches))
    assert views == list(pixels(images.views.batches))
    assert len(views) == len(trained)
    assert not set(views) & trained


# The comparison


def test_between_chance_and_hindsight_lies_every_router(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 4_000)
    chances = np.array([0.5, 0.55, 0.6])[:, None]
    right = generator.random((3, 4_000)) < chances
    predictions = np.where(right, labels, (labels + 1) % 10)
    halves = slice(0, 2_000), slice(2_000, 4_000)
    calibration, test = (PrefixPredictions(predictions[:, rows], labels[rows]) for rows in halves)
    noise = generator.random((2, 4_000))
    informed = (0.5 * oracle_scores(right) + 0.5 * noise).astype(np.float32)
    scores = {
        "random": random_scores(3, 4_000),
        "informed": informed,
        "oracle": oracle_scores(right),
    }
    rows = {
        name: compare(
            ScoredRouter(name, costs_of(3), both[:, halves[0]], both[:, halves[1]]),
            calibration,
            test,
        )
        for name, both in scores.items()
    }
    for i, budget in enumerate(BUDGETS):
        low, middle, high = (rows[name].at_budgets[i] for name in scores)
        assert low.accuracy < middle.accuracy < high.accuracy
        assert middle.mean_experts < budget + 0.05
    assert rows["informed"].near_full.mean_experts < rows["random"].near_full.mean_experts
    assert rows["informed"].near_full.accuracy > test.all_experts - 0.05
    assert all(len(row.curve.points) <= 100 for row in rows.values())
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw([row.curve for row in rows.values()], test.all_experts, file)
    assert files[0].read_bytes() == files[1].read_bytes()
