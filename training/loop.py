"""A training run from start to end: stage one (experts), then stage two (routers).

Every random draw is a function of the seed and the position (stage, epoch, step), never of a
generator's history. So a run that is resumed draws what the undisturbed run would have drawn, and
a checkpoint needs no generator state.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.augmentation import augment_batch
from training.backbones import COSINE_SCALE
from training.checkpoint import Checkpoint, Position, Stage, save_checkpoint
from training.config import TrainingConfig
from training.data import ImageSet
from training.device import Machine
from training.errors import ConfigError
from training.interrupt import InterruptFlag
from training.losses.ride import RideLoss
from training.model import RideModel, prefix_means
from training.routers.ride import router_loss
from training.schedule import learning_rate, router_learning_rate

_STAGE_NUMBER = {Stage.EXPERTS: 1, Stage.ROUTERS: 2}


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
        data: ImageSet,
        directory: Path,
        machine: Machine,
        *,
        checkpoint_every_s: float,
        reporter: Reporter,
        interrupt: InterruptFlag,
    ) -> None:
        if data.class_counts != checkpoint.class_counts:
            raise ConfigError("the training data is not what this run was started with")
        self.config = checkpoint.config
        self.position = checkpoint.position
        self.model = _on_device(checkpoint.build_model(), machine)
        self._checkpoint = checkpoint
        self._data = data
        self._directory = directory
        self._machine = machine
        self._checkpoint_every_s = checkpoint_every_s
        self._reporter = reporter
        self._interrupt = interrupt
        self._saved_at = time.monotonic()
        self._images = data.images.to(machine.device)
        self._labels = data.labels.to(machine.device)

    def run(self) -> bool:
        """Train from the current position to the end.

        Returns whether the end was reached: False after an interruption, which was saved.
        """
        if self.position.stage is Stage.EXPERTS and not self._train_experts():
            return False
        if self.position.stage is Stage.ROUTERS and not self._train_routers():
            return False
        return True

    def _train_experts(self) -> bool:
        config = self.config.optimiser
        parameters = [*self.model.backbone.parameters(), *self.model.experts.parameters()]
        optimiser = self._optimiser(
            parameters, config.learning_rate, config.momentum, config.weight_decay
        )
        scale = COSINE_SCALE if self.config.model.cosine_classifier else 1.0
        loss_function = RideLoss(
            self.config.loss, self._data.class_counts, scale, self._machine.device
        )
        self.model.train()
        average = self._average(config.ema_decay)
        for rows, generator, steps in self._batches(config.epochs, config.batch_size):
            rate = learning_rate(config, self.position.epoch)
            small = self.position.epoch < config.small_epochs
            images, labels = self._batch(rows, generator, config.small_size if small else None)
            with self._machine.autocast():
                outputs = self.model(images)
            loss = loss_function(outputs.logits, labels, self.position.epoch)
            _update(optimiser, loss, rate)
            if average is not None:
                average.update_parameters(self.model)
                self._checkpoint.average = average.state_dict()
            accuracy = _accuracy(outputs.logits.mean(dim=0), labels)
            if self._finish_step(optimiser, loss, accuracy, rate, steps, config.epochs):
                return False
        if average is not None:
            self.model.load_state_dict(average.module.state_dict())
            self._checkpoint.average = {}
        self._next_stage(Stage.ROUTERS if len(self.model.routers) else Stage.DONE)
        return True

    def _train_routers(self) -> bool:
        config = self.config.router
        optimiser = self._optimiser(
            list(self.model.routers.parameters()),
            config.learning_rate,
            config.momentum,
            config.weight_decay,
        )
        self.model.eval()
        for rows, generator, steps in self._batches(config.epochs, config.batch_size):
            done = self.position.epoch * steps + self.position.step
            rate = router_learning_rate(config, done, config.epochs * steps)
            images, labels = self._batch(rows, generator)
            with torch.no_grad(), self._machine.autocast():
                outputs = self.model(images)
            prefixes = prefix_means(outputs.logits)
            loss = router_loss(self.model.routers, outputs.embeddings, prefixes, labels, config)
            _update(optimiser, loss, rate)
            accuracy = _accuracy(prefixes[-1], labels)
            if self._finish_step(optimiser, loss, accuracy, rate, steps, config.epochs):
                return False
        self._next_stage(Stage.DONE)
        return True

    def _average(self, decay: float) -> AveragedModel | None:
        """An exponential moving average of weights and of batch statistics, as it stands."""
        if not decay:
            return None
        average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        if self._checkpoint.average:
            average.load_state_dict(self._checkpoint.average)
        return average

    def _optimiser(
        self, parameters: list[torch.nn.Parameter], rate: float, momentum: float, decay: float
    ) -> torch.optim.SGD:
        optimiser = torch.optim.SGD(
            parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=True
        )
        if self._checkpoint.optimiser:
            optimiser.load_state_dict(self._checkpoint.optimiser)
        return optimiser

    def _batches(
        self, epochs: int, batch_size: int
    ) -> Iterator[tuple[Tensor, torch.Generator, int]]:
        """Rows of each batch from the current position on, and that step's own generator."""
        for epoch in range(self.position.epoch, epochs):
            order = torch.split(self._order(epoch), batch_size)
            for step in range(self.position.step, len(order)):
                yield order[step], self._generator(epoch, step + 1), len(order)
            self.position = Position(self.position.stage, epoch + 1, 0)

    def _order(self, epoch: int) -> Tensor:
        """A permutation of all rows; in stage two as many draws, balanced over the classes."""
        generator = self._generator(epoch, 0)
        if self.position.stage is Stage.EXPERTS:
            return torch.randperm(len(self._data), generator=generator)
        weights = 1.0 / torch.tensor(self._data.class_counts, dtype=torch.float64)
        return torch.multinomial(
            weights[self._data.labels], len(self._data), replacement=True, generator=generator
        )

    def _generator(self, epoch: int, draw: int) -> torch.Generator:
        key = (self.config.seed, _STAGE_NUMBER[self.position.stage], epoch, draw)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(seed >> 1)

    def _batch(
        self, rows: Tensor, generator: torch.Generator, size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        rows = rows.to(self._machine.device)
        images = self._images[rows]
        size = size or images.shape[1]
        return augment_batch(images, self.config.augmentation, generator, size), self._labels[rows]

    def _finish_step(
        self,
        optimiser: torch.optim.Optimizer,
        loss: Tensor,
        accuracy: Tensor,
        rate: float,
        steps: int,
        epochs: int,
    ) -> bool:
        """Report, move on, save when due. Returns whether to stop here."""
        self._reporter.step(StepReport(self.position, steps, epochs, loss.detach(), accuracy, rate))
        self.position = replace(self.position, step=self.position.step + 1)
        due = time.monotonic() - self._saved_at >= self._checkpoint_every_s
        if due or self._interrupt.requested:
            self._save(optimiser.state_dict())
        return self._interrupt.requested

    def _next_stage(self, stage: Stage) -> None:
        self.position = Position(stage)
        self._save({})

    def _save(self, optimiser: dict[str, object]) -> None:
        self._checkpoint.position = self.position
        self._checkpoint.model = self.model.state_dict()
        self._checkpoint.optimiser = optimiser
        save_checkpoint(self._checkpoint, self._directory)
        self._saved_at = time.monotonic()
        self._reporter.saved(self.position)


def new_checkpoint(
    config: TrainingConfig, data: ImageSet, provenance: dict[str, object]
) -> Checkpoint:
    """A freshly initialised model at the first step of stage one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RideModel(config.model)
    return Checkpoint(
        config, data.class_names, data.class_counts, Position(), model.state_dict(), {}, provenance
    )


def _on_device(model: RideModel, machine: Machine) -> RideModel:
    # Convolutions are faster with channels last on every machine that was measured.
    return model.to(machine.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _update(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=1) == labels).float().mean()
