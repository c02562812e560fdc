"""A training run from start to end: experts, classifiers, routers.

Every random draw is a function of the seed and the position (see `training.batches`), and a
checkpoint holds everything else; so a run that was stopped anywhere goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from serving.interrupt import InterruptFlag
from training.batches import parts_of, seed_of
from training.checkpoint import FILE_NAME, Checkpoint, Position, Stage, save_checkpoint
from training.config import TrainingConfig
from training.data import LabelledImages
from training.data.loading import BatchPlan, Loader
from training.device import ComputeDevice
from training.errors import ConfigError, DataError, DivergedError
from training.learner import Learner, SeededBatch
from training.model import RideModel
from training.processes import Processes
from training.stages import (
    ClassifierStage,
    RouterStage,
    StageTraining,
    Teacher,
    balanced_training,
    expert_training,
    learns_routers,
    normalise_classifiers,
    reset_classifiers,
)

_STAGE_NUMBER = {Stage.EXPERTS: 1, Stage.ROUTERS: 2, Stage.CLASSIFIERS: 3}
_CHECK_EVERY_STEPS = 10


@dataclass(frozen=True)
class StepReport:
    """What happened in one step: mean loss, share of the batch that was right, learning rate."""

    position: Position
    steps_per_epoch: int
    epochs: int
    loss: Tensor
    accuracy: Tensor
    learning_rate: float


class Reporter(Protocol):
    """Shows a run to a person."""

    def step(self, report: StepReport) -> None:
        """One step is done."""

    def saved(self, position: Position) -> None:
        """A checkpoint was written."""


@dataclass
class TrainingRun:
    """A run under way: model and position, what they are trained on, and how they are saved.

    Raises:
        ConfigError: if the images are not those that the run was started with.
        CheckpointError: if the checkpoint's weights don't fit its configuration.
    """

    checkpoint: Checkpoint
    images: LabelledImages
    loader: Loader
    directory: Path
    compute: ComputeDevice
    _: KW_ONLY
    checkpoint_every_s: float
    reporter: Reporter
    interrupt: InterruptFlag
    teacher: RideModel | None = None
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        if self.images.fingerprint() != self.checkpoint.data_fingerprint:
            raise ConfigError(
                "the training data is not what this run was started with: images, labels or "
                f"class names have changed since. Resume {self.directory} with the data as it was, "
                "or start a new run in another folder"
            )
        self.config = self.checkpoint.config
        self.position = self.checkpoint.position
        self.model = self.compute.place(self.checkpoint.build_model())
        self._saved_at = time.monotonic()
        self._unchecked: list[StepReport] = []

    def run(self) -> bool:
        """Train from the current position to the end.

        Returns whether the end was reached: False after an interruption, which was saved.

        Raises:
            DivergedError: if the loss or a weight stops being a number; the last checkpoint, from
                before that, is kept.
            CheckpointError: if a checkpoint could not be written; the one before it is kept.
            DataError: if an image can't be read; the steps before it are saved.
        """
        while self.position.stage is not Stage.DONE:
            if not self._train(self._stage_training()):
                return False
            self._finish_stage()
        return True

    def _stage_training(self) -> StageTraining:
        model, config, compute = self.model, self.config, self.compute
        size = config.data.image_size
        match self.position.stage:
            case Stage.EXPERTS:
                teacher = None if self.teacher is None else Teacher(self.teacher, compute)
                return expert_training(model, config, self.images.class_counts, compute, teacher)
            case Stage.CLASSIFIERS:
                return balanced_training(ClassifierStage(model, compute), config.classifier, size)
            case _:
                corrections = self.checkpoint.prefix_corrections()
                routers = RouterStage(model, config.router, corrections, compute)
                return balanced_training(routers, config.router, size)

    def _train(self, stage: StageTraining) -> bool:
        """Train one stage. Returns False after an interruption."""
        kept = self.checkpoint
        learner = Learner(self.model, stage, self.processes, kept.optimiser, kept.average)
        try:
            for parts, steps in self._loaded_batches(stage):
                position = self.position
                rate = stage.rate(position.epoch, position.step, steps)
                loss, accuracy = learner.step(parts, position.epoch, rate)
                report = StepReport(position, steps, stage.settings.epochs, loss, accuracy, rate)
                if self._finish_step(report, learner):
                    return False
        except DataError:  # an image can't be read: what was learnt before it is kept
            if self.position != self.checkpoint.position:
                self._save(*learner.state())
            raise
        learner.finish()
        return True

    def _loaded_batches(self, stage: StageTraining) -> Iterator[tuple[list[SeededBatch], int]]:
        """This process's parts of each batch from the current position on, and steps an epoch."""
        for epoch in range(self.position.epoch, stage.settings.epochs):
            plans = self._plans(stage, epoch)
            ahead = plans[self.position.step :]
            loaded = self.loader.batches(part for parts in ahead for part in parts)
            for parts in ahead:
                yield [(next(loaded), part.seed) for part in parts], len(plans)
            self.position = Position(self.position.stage, epoch + 1, 0)

    def _plans(self, stage: StageTraining, epoch: int) -> list[list[BatchPlan]]:
        """An epoch's batches, each as the parts that fall to this process.

        A last batch that would leave parts with a single image, or none, is left out: small
        images end as single pixels, and those of one image can't be normalised by their variance.
        """
        count = self.processes.count * stage.accumulate
        key = (self.config.seed, _STAGE_NUMBER[self.position.stage], epoch)
        rows = torch.split(stage.order(self.images, seed_of(*key, 0)), stage.settings.batch_size)
        size = stage.image_size(epoch)
        plans = [
            list(parts_of(batch, (*key, step), size, count))[
                self.processes.rank :: self.processes.count
            ]
            for step, batch in enumerate(rows, start=1)
            if len(batch) >= 2 * count or len(batch) == stage.settings.batch_size
        ]
        if not plans:
            raise ConfigError(f"{len(self.images)} training images are too few for a single step")
        return plans

    def _finish_step(self, report: StepReport, learner: Learner) -> bool:
        """Report, move on, save when due. Returns whether to stop here."""
        self._unchecked.append(report)
        if len(self._unchecked) >= _CHECK_EVERY_STEPS:
            self._require_finite_losses()
        if self.processes.is_main:
            self.reporter.step(report)
        self.position = replace(self.position, step=self.position.step + 1)
        stop = self.processes.any(self.interrupt.requested)
        due = time.monotonic() - self._saved_at >= self.checkpoint_every_s
        if stop or due:
            self._save(*learner.state())
        return stop

    def _finish_stage(self) -> None:
        config = self.config
        match self.position.stage:
            case Stage.EXPERTS if config.classifier.epochs:
                if config.classifier.reset:
                    reset_classifiers(
                        self.model, seed_of(config.seed, _STAGE_NUMBER[Stage.CLASSIFIERS])
                    )
                following = Stage.CLASSIFIERS
            case Stage.EXPERTS | Stage.CLASSIFIERS:
                if config.classifier.tau:
                    normalise_classifiers(self.model, config.classifier.tau)
                following = Stage.ROUTERS if learns_routers(config) else Stage.DONE
            case _:
                following = Stage.DONE
        self.position = Position(following)
        self._save({}, {})

    def _require_finite_losses(self) -> None:
        losses = [report.loss for report in self._unchecked]
        finite = torch.isfinite(torch.stack(losses)).tolist() if losses else []
        wrong = [i for i, is_finite in enumerate(finite) if not is_finite]
        if wrong:
            self._diverged(
                f"the loss is {losses[wrong[0]].item()}", self._unchecked[wrong[0]].position
            )
        self._unchecked = []

    def _diverged(self, what: str, position: Position) -> None:
        kept = self.directory / FILE_NAME
        raise DivergedError(
            f"training has diverged: {what} at {position}. "
            + (f"{kept} is kept, from before that. " if kept.is_file() else "")
            + "Start a new run with a lower learning rate: --set optimiser.learning_rate=.."
        )

    def _save(self, optimiser: dict[str, object], average: dict[str, object]) -> None:
        """Write a checkpoint, unless what would be written is no longer numbers."""
        self._require_finite_losses()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self._diverged("a weight is not a finite number", self.position)
        self.checkpoint.position = self.position
        self.checkpoint.model = self.model.state_dict()
        self.checkpoint.optimiser = optimiser
        self.checkpoint.average = average
        self._saved_at = time.monotonic()
        if self.processes.is_main:
            save_checkpoint(self.checkpoint, self.directory)
            self.reporter.saved(self.position)


def fresh_model(config: TrainingConfig) -> RideModel:
    """A freshly initialised model, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RideModel(config.model)


def new_checkpoint(
    config: TrainingConfig,
    images: LabelledImages,
    provenance: dict[str, object],
    model: RideModel | None = None,
) -> Checkpoint:
    """A model (a fresh one, if none is given) at the first step of stage one."""
    model = fresh_model(config) if model is None else model
    return Checkpoint(
        config=config,
        class_names=images.class_names,
        class_counts=images.class_counts,
        data_fingerprint=images.fingerprint(),
        position=Position(),
        model=model.state_dict(),
        optimiser={},
        provenance=provenance,
    )
