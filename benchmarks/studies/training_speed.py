"""The study `training-speed`: steps a second, and what share of the machine's peak that is."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.errors import BenchmarkError
from serving.interrupt import InterruptFlag
from training.checkpoint import Position
from training.choices import OnUnreadable, Precision
from training.config import TrainingConfig
from training.costs import multiply_adds
from training.data import ImageSet
from training.data.loading import make_loader
from training.device import ComputeDevice, choose_device
from training.loop import StepReport, TrainingRun, new_checkpoint
from training.presets import PRESETS
from training.processes import Processes, joined_processes

_PASSES = 3  # forward, and backward for activations and for weights
_OPERATIONS = 2  # a multiplication and an addition
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_PEAK_S = 1.0


_SMALL = [name for name, config in PRESETS.items() if config.data.image_size <= 32]


class StepClock:
    """A reporter that times the steps after a warm-up, and then ends the run."""

    def __init__(
        self, interrupt: InterruptFlag, machine: ComputeDevice, warm_up: int, steps: int
    ) -> None:
        self._interrupt = interrupt
        self._machine = machine
        self._warm_up = warm_up
        self._steps = steps
        self._done = 0
        self._started_at = 0.0
        self.seconds_a_step = 0.0

    def step(self, _report: StepReport) -> None:
        """Count a step, and look at the clock where it matters."""
        self._done += 1
        if self._done == self._warm_up:
            synchronise(self._machine)
            self._started_at = time.perf_counter()
        elif self._done == self._warm_up + self._steps:
            synchronise(self._machine)
            self.seconds_a_step = (time.perf_counter() - self._started_at) / self._steps
            self._interrupt.requested = True

    def saved(self, _position: Position) -> None:
        """Of no interest."""


@dataclass(frozen=True)
class TrainingSpeed:
    """What was measured: seconds a step, operations a step, and the peak's operations a second."""

    seconds_a_step: float
    operations: float
    peak: float
    steps_of_a_run: int

    def lines(self, batch_size: int) -> Iterator[str]:
        """For people."""
        rate = 1 / self.seconds_a_step
        reached = self.operations * rate
        minutes = self.steps_of_a_run / rate / 60
        yield f"{rate:.2f} steps/s of {batch_size} images, {1 / rate:.4f} s each"
        yield f"{reached / self.peak:.0%} of peak: {_giga(reached)} of {_giga(self.peak)} GFLOP/s"
        yield f"{self.steps_of_a_run:,} steps of a whole run: {minutes:.1f} minutes at this speed"


def training_speed(
    preset: Annotated[
        str, typer.Option(help=f"What is trained: {', '.join(_SMALL)}.")
    ] = "cifar100-lt",
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels, if not the preset's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images a step, if not the preset's.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Number format.")] = Precision.AUTO,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the model.")] = False,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before the clock starts.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 30,
) -> Iterator[str]:
    """How fast does a preset train on this machine, as a share of its peak?

    Steps are those of ride train, on random images: loading, augmentation, forward, backward,
    update and moving average. The peak is what one large matrix product reaches in the same number
    format on the same device, measured before and after. A step's work is three times the forward
    pass's multiply-adds, two operations each; what batch normalisation, activations and the
    optimiser do on top counts as nothing, so the share says how much of the machine goes into what
    can't be avoided.

    Example: torchrun --nproc-per-node 2 -m benchmarks training-speed --preset cifar100-lt
    """
    if preset not in _SMALL:
        raise BenchmarkError(f"there is no preset {preset!r} of small images")
    known = PRESETS[preset]
    size = image_size or known.data.image_size
    batch = batch_size or known.optimiser.batch_size
    config = replace(
        known,
        precision=precision,
        data=replace(known.data, image_size=size, resize_shorter_side=size),
        optimiser=replace(known.optimiser, batch_size=batch, small_epochs=0),
    )
    machine = choose_device(device, config.precision, compiled=compiled)
    with joined_processes() as processes:
        speed = time_steps(config, machine, processes, warm_up, steps)
        if processes.is_main:
            yield f"{preset}, {machine.name}, {machine.precision}, {processes.count} process"
            yield from speed.lines(batch)


def time_steps(
    config: TrainingConfig, machine: ComputeDevice, processes: Processes, warm_up: int, steps: int
) -> TrainingSpeed:
    """Train for `warm_up` + `steps` steps on random images, in a folder that is thrown away."""
    before = peak_operations(machine)
    images = noise_set(config)
    checkpoint = new_checkpoint(config, images, {})
    costs = multiply_adds(checkpoint.build_model(), config.data.image_size)
    interrupt = InterruptFlag()
    clock = StepClock(interrupt, machine, warm_up, steps)
    loader = make_loader(
        images,
        config.augmentation,
        config.data,
        machine.device,
        workers=0,
        two_views=config.loss.two_views,
        on_unreadable=OnUnreadable.STOP,
    )
    with tempfile.TemporaryDirectory() as folder:
        TrainingRun(
            checkpoint,
            images,
            loader,
            Path(folder),
            machine,
            checkpoint_every_s=float("inf"),
            reporter=clock,
            interrupt=interrupt,
            processes=processes,
        ).run()
    forward = costs.backbone + sum(costs.experts)
    return TrainingSpeed(
        seconds_a_step=clock.seconds_a_step,
        operations=_PASSES * _OPERATIONS * forward * config.optimiser.batch_size,
        peak=processes.count * max(before, peak_operations(machine)),
        steps_of_a_run=config.optimiser.epochs
        * math.ceil(len(images) / config.optimiser.batch_size),
    )


def noise_set(config: TrainingConfig) -> ImageSet:
    """As many as CIFAR-100-LT has, of the configuration's size."""
    generator = torch.Generator().manual_seed(0)
    count, classes, side = 10_847, config.model.num_classes, config.data.image_size
    shape = (count, side, side, 3)
    return ImageSet(
        torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        torch.arange(count) % classes,
        tuple(str(label) for label in range(classes)),
    )


def peak_operations(machine: ComputeDevice) -> float:
    """Operations a second of one large matrix product."""
    side = _MATRIX_SIDE[machine.device.type]
    kind = torch.bfloat16 if machine.precision is Precision.BF16 else torch.float32
    matrix = torch.randn(side, side, device=machine.device).to(kind)
    matrix @ matrix
    synchronise(machine)
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < _PEAK_S:
        matrix @ matrix
        synchronise(machine)
        products += 1
    return _OPERATIONS * side**3 * products / (time.perf_counter() - started)


def synchronise(machine: ComputeDevice) -> None:
    """Wait until the device has done all that it was given."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def _giga(operations: float) -> str:
    return f"{operations / 1e9:,.0f}"
