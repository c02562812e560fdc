"""A training run from start to end: experts, classifiers, routers.

Every random draw is a function of the seed and the position (see `training.batches`), and a
checkpoint holds everything else; so a run that was stopped anywhere goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from serving.interrupt import InterruptFlag
from training.batches import parts_of, seed_of
from training.checkpoint import FILE_NAME, Checkpoint, Position, Stage, save_checkpoint
from training.config import TrainingConfig
from training.data import LabelledImages
from training.data.loading import Batch, BatchPlan, Loader
from training.device import ComputeDevice
from training.errors import ConfigError, DataError, DivergedError
from training.model import RideModel
from training.processes import Processes, unsynchronised
from training.stages import (
    StageTraining,
    StepResult,
    Teacher,
    classifier_training,
    expert_training,
    learns_routers,
    normalise_classifiers,
    reset_classifiers,
    router_training,
)

_STAGE_NUMBER = {Stage.EXPERTS: 1, Stage.ROUTERS: 2, Stage.CLASSIFIERS: 3}
_CHECK_EVERY_STEPS = 10

SeededBatch = tuple[Batch, int]


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


class TrainingRun:
    """A run under way: model, optimiser and position, and how they are saved."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: LabelledImages,
        loader: Loader,
        directory: Path,
        compute: ComputeDevice,
        *,
        checkpoint_every_s: float,
        reporter: Reporter,
        interrupt: InterruptFlag,
        teacher: RideModel | None = None,
        processes: Processes | None = None,
    ) -> None:
        if images.fingerprint() != checkpoint.data_fingerprint:
            raise ConfigError(
                "the training data is not what this run was started with: images, labels or "
                f"class names have changed since. Resume {directory} with the data as it was, or "
                "start a new run in another folder"
            )
        self.config = checkpoint.config
        self.position = checkpoint.position
        self.model = compute.place(checkpoint.build_model())
        self._checkpoint = checkpoint
        self._images = images
        self._loader = loader
        self._directory = directory
        self._compute = compute
        self._checkpoint_every_s = checkpoint_every_s
        self._reporter = reporter
        self._interrupt = interrupt
        self._teacher = None if teacher is None else Teacher(teacher, compute)
        self._processes = processes or Processes()
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
        match self.position.stage:
            case Stage.EXPERTS:
                return expert_training(
                    self.model,
                    self.config,
                    self._images.class_counts,
                    self._compute,
                    self._teacher,
                )
            case Stage.CLASSIFIERS:
                return classifier_training(self.model, self.config, self._compute)
            case _:
                corrections = self._checkpoint.prefix_corrections()
                return router_training(self.model, self.config, corrections, self._compute)

    def _train(self, stage: StageTraining) -> bool:
        """Train one stage. Returns False after an interruption."""
        optimiser = self._optimiser(stage)
        average = self._average()
        module = self._processes.join(stage.module)
        for parts, steps in self._saved_if_unreadable(stage, optimiser, average):
            rate = stage.rate(self.position.epoch, self.position.step, steps)
            loss, accuracy = self._update(module, optimiser, parts, rate)
            if average is not None:
                average.update_parameters(self.model)
            report = StepReport(self.position, steps, stage.settings.epochs, loss, accuracy, rate)
            if self._finish_step(report, optimiser, average):
                return False
        if average is not None:
            self.model.load_state_dict(average.module.state_dict())
        return True

    def _optimiser(self, stage: StageTraining) -> torch.optim.SGD:
        settings = stage.settings
        optimiser = torch.optim.SGD(
            stage.parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=True,
        )
        if self._checkpoint.optimiser:
            optimiser.load_state_dict(self._checkpoint.optimiser)
        return optimiser

    def _average(self) -> AveragedModel | None:
        """The moving average of weights and batch statistics; only the experts' stage has one."""
        decay = self.config.optimiser.ema_decay
        if not decay or self.position.stage is not Stage.EXPERTS:
            return None
        average = AveragedModel(
            self.model,
            multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        if self._checkpoint.average:
            average.load_state_dict(self._checkpoint.average)
        return average

    def _saved_if_unreadable(
        self,
        stage: StageTraining,
        optimiser: torch.optim.Optimizer,
        average: AveragedModel | None,
    ) -> Iterator[tuple[list[SeededBatch], int]]:
        """The batches; where one can't be read, what was learnt before it is kept."""
        try:
            yield from self._loaded_batches(stage)
        except DataError:
            if self.position != self._checkpoint.position:
                self._save_step(optimiser, average)
            raise

    def _loaded_batches(self, stage: StageTraining) -> Iterator[tuple[list[SeededBatch], int]]:
        """This process's parts of each batch from the current position on, and steps an epoch."""
        for epoch in range(self.position.epoch, stage.settings.epochs):
            plans = self._plans(stage, epoch)
            ahead = plans[self.position.step :]
            loaded = self._loader.batches(part for parts in ahead for part in parts)
            for parts in ahead:
                yield [(next(loaded), part.seed) for part in parts], len(plans)
            self.position = Position(self.position.stage, epoch + 1, 0)

    def _plans(self, stage: StageTraining, epoch: int) -> list[list[BatchPlan]]:
        """An epoch's batches, each as the parts that fall to this process.

        A last batch that would leave parts with a single image, or none, is left out: small
        images end as single pixels, and those of one image can't be normalised by their variance.
        """
        count = self._processes.count * self._accumulate
        key = (self.config.seed, _STAGE_NUMBER[self.position.stage], epoch)
        rows = torch.split(stage.order(self._images, seed_of(*key, 0)), stage.settings.batch_size)
        size = stage.image_size(epoch)
        plans = [
            list(parts_of(batch, (*key, step), size, count))[
                self._processes.rank :: self._processes.count
            ]
            for step, batch in enumerate(rows, start=1)
            if len(batch) >= 2 * count or len(batch) == stage.settings.batch_size
        ]
        if not plans:
            raise ConfigError(f"{len(self._images)} training images are too few for a single step")
        return plans

    @property
    def _accumulate(self) -> int:
        return self.config.optimiser.accumulate if self.position.stage is Stage.EXPERTS else 1

    def _update(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        parts: list[SeededBatch],
        rate: float,
    ) -> StepResult:
        """One optimiser step on the mean over all parts of the batch."""
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        outcomes = []
        for i, (batch, seed) in enumerate(parts, start=1):
            with nullcontext() if i == len(parts) else unsynchronised(module):
                loss, accuracy = module(batch, self.position.epoch, seed)
                (loss / len(parts)).backward()
            outcomes.append(torch.stack((loss.detach(), accuracy)))
        optimiser.step()
        loss, accuracy = self._processes.mean(torch.stack(outcomes).mean(dim=0))
        return loss, accuracy

    def _finish_step(
        self, report: StepReport, optimiser: torch.optim.Optimizer, average: AveragedModel | None
    ) -> bool:
        """Report, move on, save when due. Returns whether to stop here."""
        self._unchecked.append(report)
        if len(self._unchecked) >= _CHECK_EVERY_STEPS:
            self._require_finite_losses()
        if self._processes.is_main:
            self._reporter.step(report)
        self.position = replace(self.position, step=self.position.step + 1)
        stop = self._processes.any(self._interrupt.requested)
        due = time.monotonic() - self._saved_at >= self._checkpoint_every_s
        if stop or due:
            self._save_step(optimiser, average)
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
        kept = self._directory / FILE_NAME
        raise DivergedError(
            f"training has diverged: {what} at {position}. "
            + (f"{kept} is kept, from before that. " if kept.is_file() else "")
            + "Start a new run with a lower learning rate: --set optimiser.learning_rate=.."
        )

    def _save_step(self, optimiser: torch.optim.Optimizer, average: AveragedModel | None) -> None:
        self._save(optimiser.state_dict(), {} if average is None else average.state_dict())

    def _save(self, optimiser: dict[str, object], average: dict[str, object]) -> None:
        """Write a checkpoint, unless what would be written is no longer numbers."""
        self._require_finite_losses()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self._diverged("a weight is not a finite number", self.position)
        self._checkpoint.position = self.position
        self._checkpoint.model = self.model.state_dict()
        self._checkpoint.optimiser = optimiser
        self._checkpoint.average = average
        self._saved_at = time.monotonic()
        if self._processes.is_main:
            save_checkpoint(self._checkpoint, self._directory)
            self._reporter.saved(self.position)


def new_checkpoint(
    config: TrainingConfig, images: LabelledImages, provenance: dict[str, object]
) -> Checkpoint:
    """A freshly initialised model at the first step of stage one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RideModel(config.model)
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
