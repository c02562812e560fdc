"""Runs that stop anywhere: resumed bit for bit, and what was good is kept."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from serving.interrupt import InterruptFlag
from tests.training.runs import (
    CONFIG,
    CPU,
    EXPERT_STEPS,
    ROUTER_STEPS,
    PowerCut,
    Witness,
    assert_equal,
    loader_of,
    make,
    same,
    start,
    stopped,
    trained,
)
from training.checkpoint import (
    FILE_NAME,
    Position,
    Stage,
    load_checkpoint,
    load_finished,
)
from training.choices import BaseLoss, Policy, ScheduleForm
from training.config import AugmentationConfig, ClassifierConfig
from training.data import ImageSet
from training.errors import CheckpointError, DivergedError
from training.loop import TrainingRun, new_checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def undisturbed(tiny: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of CONFIG trained in one go; they don't depend on torch's global generator."""
    torch.manual_seed(12345)
    return trained(CONFIG, tiny, tmp_path_factory.mktemp("undisturbed"))


def test_the_same_run_twice_has_the_same_weights(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(54321)
    assert_equal(trained(CONFIG, tiny, tmp_path), undisturbed)


def test_another_seed_has_other_weights(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    other = trained(replace(CONFIG, seed=1), tiny, tmp_path)
    for prefix in ("backbone", "experts.0", "experts.2", "routers.0"):
        assert not same(other, undisturbed, prefix)


@pytest.mark.parametrize(
    "stops",
    [
        [3],  # within an epoch
        [EXPERT_STEPS, 1],  # at the end of stage one and within stage two
        [1] * (EXPERT_STEPS + ROUTER_STEPS),  # after every single step
    ],
    ids=str,
)
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path, stops: list[int]
) -> None:
    witness = stopped(CONFIG, tiny, tmp_path, stops)
    assert sum(stops) + len(witness.reports) == EXPERT_STEPS + ROUTER_STEPS
    assert_equal(load_finished(tmp_path).model, undisturbed)


@pytest.mark.parametrize("step", [6, EXPERT_STEPS + 2])
def test_after_a_power_cut_a_run_goes_on_from_its_last_checkpoint(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path, step: int
) -> None:
    def cut(done: int) -> None:
        if done == step:
            raise PowerCut

    witness = Witness(cut)
    run = TrainingRun(
        new_checkpoint(CONFIG, tiny, {}),
        tiny,
        loader_of(tiny, CONFIG),
        tmp_path,
        CPU,
        checkpoint_every_s=0,
        reporter=witness,
        interrupt=InterruptFlag(),
    )
    with pytest.raises(PowerCut):
        run.run()
    assert load_checkpoint(tmp_path).position == witness.saves[-1] == witness.reports[-1].position
    finished, _ = start(load_checkpoint(tmp_path), tiny, tmp_path)
    assert finished
    assert_equal(load_finished(tmp_path).model, undisturbed)


def test_an_interruption_is_saved_where_the_next_step_begins(
    tiny: ImageSet, tmp_path: Path
) -> None:
    _, witness = start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=6)
    assert [report.position.step for report in witness.reports] == [0, 1, 2, 3, 0, 1]
    assert witness.saves == [Position(Stage.EXPERTS, 1, 2)]
    assert load_checkpoint(tmp_path).position == Position(Stage.EXPERTS, 1, 2)


FULL = replace(
    CONFIG,
    augmentation=AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=4, mixup_alpha=0.4),
    loss=replace(CONFIG.loss, base=BaseLoss.BALANCED_SOFTMAX, prior_strengths=(0.0, 1.0, 2.0)),
    optimiser=replace(
        CONFIG.optimiser,
        accumulate=2,
        schedule=ScheduleForm.COSINE,
        ema_decay=0.5,
        small_epochs=1,
        small_size=8,
    ),
    classifier=ClassifierConfig(epochs=1, batch_size=8),
    data=replace(CONFIG.data, image_size=12, resize_shorter_side=12),
)
"""Everything at once: mixed labels, priors, averaged weights, parts, small images, retraining."""


@pytest.mark.parametrize("stops", [[3, 4, 2], [1] * 14], ids=str)
def test_every_method_at_once_is_resumed_bit_for_bit(
    tiny: ImageSet, tmp_path: Path, stops: list[int]
) -> None:
    undisturbed = trained(FULL, tiny, make(tmp_path / "undisturbed"))
    stopped(FULL, tiny, tmp_path, stops)
    assert_equal(load_finished(tmp_path).model, undisturbed)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(
    tiny: ImageSet, tmp_path: Path
) -> None:
    start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=2)
    good = (tmp_path / FILE_NAME).read_bytes()
    broken = load_checkpoint(tmp_path)
    broken.model["experts.1.classifier.weight"][0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"the loss is nan at experts, epoch 1, step 2.*kept"):
        start(broken, tiny, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == good


def test_a_weight_that_is_no_number_is_never_saved(tiny: ImageSet, tmp_path: Path) -> None:
    config = CONFIG.with_settings(["optimiser.learning_rate=1e38", "optimiser.warmup_epochs=0"])
    with pytest.raises(DivergedError, match="learning_rate"):
        start(new_checkpoint(config, tiny, {}), tiny, tmp_path, stop_after=1)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    tiny: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=2)
    good = (tmp_path / FILE_NAME).read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="could not be written: No space left on device"):
        start(load_checkpoint(tmp_path), tiny, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME]
