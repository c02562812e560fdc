"""Runs on tiny data, which tests interrupt and look into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from serving.interrupt import InterruptFlag
from training.checkpoint import (
    Checkpoint,
    Position,
    load_checkpoint,
    load_finished,
)
from training.choices import Dataset, OnUnreadable, Precision
from training.config import DataConfig, ModelConfig, OptimiserConfig, RouterConfig, TrainingConfig
from training.data import ImageSet
from training.data.loading import Loader, make_loader
from training.device import ComputeDevice
from training.loop import StepReport, TrainingRun, new_checkpoint
from training.model import RideModel

CONFIG = TrainingConfig(
    preset="cifar10-lt",
    data=DataConfig(dataset=Dataset.CIFAR10, image_size=8),
    model=ModelConfig(num_classes=10, num_experts=3, router_top_logits=10),
    optimiser=OptimiserConfig(epochs=2, batch_size=8, warmup_epochs=1, drop_epochs=(1,)),
    router=RouterConfig(epochs=2, batch_size=16),
)
CPU = ComputeDevice(torch.device("cpu"), Precision.FP32)
EXPERT_STEPS = 2 * 4  # 27 images in batches of 8
ROUTER_STEPS = 2 * 2
NEVER_S = 1e9


class Witness:
    """A reporter that keeps what it was told, and may act after each step."""

    def __init__(self, act: Callable[[int], None] = lambda step: None) -> None:
        self.reports: list[StepReport] = []
        self.saves: list[Position] = []
        self._act = act

    def step(self, report: StepReport) -> None:
        self.reports.append(report)
        self._act(len(self.reports))

    def saved(self, position: Position) -> None:
        self.saves.append(position)


class PowerCut(Exception):
    """Ends a run without any warning."""


def loader_of(data: ImageSet, config: TrainingConfig) -> Loader:
    return make_loader(
        data,
        config.augmentation,
        config.data,
        CPU.device,
        workers=0,
        two_views=config.loss.two_views,
        on_unreadable=OnUnreadable.STOP,
    )


def start(
    checkpoint: Checkpoint,
    data: ImageSet,
    folder: Path,
    *,
    stop_after: int | None = None,
    machine: ComputeDevice = CPU,
    teacher: RideModel | None = None,
) -> tuple[bool, Witness]:
    """Train; interrupted after that many steps. Returns whether the end was reached."""
    interrupt = InterruptFlag()

    def act(step: int) -> None:
        interrupt.requested = step == stop_after

    witness = Witness(act)
    run = TrainingRun(
        checkpoint,
        data,
        loader_of(data, checkpoint.config),
        folder,
        machine,
        checkpoint_every_s=NEVER_S,
        reporter=witness,
        interrupt=interrupt,
        teacher=teacher,
    )
    return run.run(), witness


def stopped(config: TrainingConfig, data: ImageSet, folder: Path, stops: Sequence[int]) -> Witness:
    """Train to the end, with a stop after each of these numbers of steps; who saw the rest."""
    checkpoint = new_checkpoint(config, data, {})
    for stop in stops:
        finished, _ = start(checkpoint, data, folder, stop_after=stop)
        assert not finished
        checkpoint = load_checkpoint(folder)
    finished, witness = start(checkpoint, data, folder)
    assert finished
    return witness


def trained(config: TrainingConfig, data: ImageSet, folder: Path) -> dict[str, Tensor]:
    """Weights of a run that nothing disturbed."""
    finished, _ = start(new_checkpoint(config, data, {}), data, folder)
    assert finished
    return load_finished(folder).model


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []


def same(left: dict[str, Tensor], right: dict[str, Tensor], prefix: str) -> bool:
    names = [name for name in left if name.startswith(prefix)]
    assert names
    return all(torch.equal(left[name], right[name]) for name in names)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
