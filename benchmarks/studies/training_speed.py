"""How fast a preset trains on this machine, and what share of its peak that is.

    python benchmarks/studies/training_speed.py
    python benchmarks/studies/training_speed.py --preset cifar100-lt --image-size 24 --compile
    torchrun --nproc-per-node 2 benchmarks/studies/training_speed.py

Steps are those of `ride train`, on random images: loading, augmentation, forward, backward, update
and moving average. The peak is what one large matrix product reaches in the same number format on
the same device, measured before and after. A step's work is three times the forward pass's
multiply-adds, two operations each; what batch normalisation, activations and the optimiser do on
top counts as nothing, so the share says how much of the machine goes into what can't be avoided.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from serving.interrupt import InterruptFlag
from training.checkpoint import Position
from training.config import Precision, TrainingConfig
from training.costs import multiply_adds
from training.data import ImageSet
from training.data.loading import OnUnreadable, make_loader
from training.device import Machine, choose_machine
from training.loop import StepReport, TrainingRun, new_checkpoint
from training.presets import PRESETS, preset
from training.processes import Processes, joined_processes

_PASSES = 3  # forward, and backward for activations and for weights
_OPERATIONS = 2  # a multiplication and an addition
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_PEAK_S = 1.0


class StepClock:
    """A reporter that times the steps after a warm-up, and then ends the run."""

    def __init__(
        self, interrupt: InterruptFlag, machine: Machine, warm_up: int, steps: int
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
class Speed:
    """What was measured: seconds a step, operations a step, and the peak's operations a second."""

    seconds_a_step: float
    operations: float
    peak: float
    steps_of_a_run: int

    def lines(self, batch_size: int) -> list[str]:
        """For people."""
        rate = 1 / self.seconds_a_step
        reached = self.operations * rate
        minutes = self.steps_of_a_run / rate / 60
        return [
            f"{rate:.2f} steps/s of {batch_size} images, {1 / rate:.4f} s each",
            f"{reached / self.peak:.0%} of peak: {_giga(reached)} of {_giga(self.peak)} GFLOP/s",
            f"{self.steps_of_a_run:,} steps of a whole run: {minutes:.1f} minutes at this speed",
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    config = _configured(options)
    machine = choose_machine(options.device, config.precision, compiled=options.compile)
    with joined_processes() as processes:
        speed = measure(config, machine, processes, options.warm_up, options.steps)
        if processes.is_main:
            print(
                f"{config.preset}, {machine.name}, {machine.precision}, {processes.count} process"
            )
            print("\n".join(speed.lines(config.optimiser.batch_size)))


def measure(
    config: TrainingConfig, machine: Machine, processes: Processes, warm_up: int, steps: int
) -> Speed:
    """Train for `warm_up` + `steps` steps on random images, in a folder that is thrown away."""
    before = peak_operations(machine)
    images = random_images(config)
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
        two_views=config.loss.consistency_weight > 0,
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
    return Speed(
        seconds_a_step=clock.seconds_a_step,
        operations=_PASSES * _OPERATIONS * forward * config.optimiser.batch_size,
        peak=processes.count * max(before, peak_operations(machine)),
        steps_of_a_run=config.optimiser.epochs
        * math.ceil(len(images) / config.optimiser.batch_size),
    )


def random_images(config: TrainingConfig) -> ImageSet:
    """As many as CIFAR-100-LT has, of the configuration's size."""
    generator = torch.Generator().manual_seed(0)
    count, classes, side = 10_847, config.model.num_classes, config.data.image_size
    shape = (count, side, side, 3)
    return ImageSet(
        torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        torch.arange(count) % classes,
        tuple(str(label) for label in range(classes)),
    )


def peak_operations(machine: Machine) -> float:
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


def synchronise(machine: Machine) -> None:
    """Wait until the device has done all that it was given."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def _giga(operations: float) -> str:
    return f"{operations / 1e9:,.0f}"


def _at_least_one(text: str) -> int:
    """A flag's value."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _configured(options: argparse.Namespace) -> TrainingConfig:
    config = preset(options.preset)
    size = options.image_size or config.data.image_size
    return replace(
        config,
        precision=Precision(options.precision),
        data=replace(config.data, image_size=size, resize_shorter_side=size),
        optimiser=replace(
            config.optimiser,
            batch_size=options.batch_size or config.optimiser.batch_size,
            small_epochs=0,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    small = [name for name, config in PRESETS.items() if config.data.image_size <= 32]
    parser.add_argument("--preset", choices=small, default="cifar100-lt", help="what is trained")
    parser.add_argument("--image-size", type=int, help="pixels (default: the preset's)")
    parser.add_argument("--batch-size", type=int, help="images a step (default: the preset's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=list(Precision), default=Precision.AUTO)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument(
        "--warm-up", type=_at_least_one, default=10, help="steps before the clock starts"
    )
    parser.add_argument("--steps", type=_at_least_one, default=30, help="steps that are timed")
    return parser


if __name__ == "__main__":
    main()
