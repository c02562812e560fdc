"""What learns in a stage: the optimiser, the moving average of the weights, and their steps."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.data.loading import Batch
from training.model import RideModel
from training.processes import Processes, unsynchronised
from training.stages import StageTraining, StepResult

SeededBatch = tuple[Batch, int]


class Learner:
    """Trains a model as one stage wants it; its state goes on from a checkpoint's."""

    def __init__(
        self,
        model: RideModel,
        stage: StageTraining,
        processes: Processes,
        optimiser_state: dict[str, Any],
        average_state: dict[str, Any],
    ) -> None:
        settings = stage.settings
        self._model = model
        self._processes = processes
        self._optimiser = torch.optim.SGD(
            stage.parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            fused=True,
        )
        if optimiser_state:
            self._optimiser.load_state_dict(optimiser_state)
        self._average = _moving_average(model, stage.ema_decay) if stage.ema_decay else None
        if self._average is not None and average_state:
            self._average.load_state_dict(average_state)
        self._module = processes.join(stage.module)

    def step(self, parts: list[SeededBatch], epoch: int, rate: float) -> StepResult:
        """One optimiser step on the mean over all parts of the batch, in all processes."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        results = []
        for i, (batch, seed) in enumerate(parts, start=1):
            with nullcontext() if i == len(parts) else unsynchronised(self._module):
                loss, accuracy = self._module(batch, epoch, seed)
                (loss / len(parts)).backward()
            results.append(torch.stack((loss.detach(), accuracy)))
        self._optimiser.step()
        if self._average is not None:
            self._average.update_parameters(self._model)
        loss, accuracy = self._processes.mean(torch.stack(results).mean(dim=0))
        return loss, accuracy

    def finish(self) -> None:
        """At the end of the stage the moving average, if there is one, becomes the model."""
        if self._average is not None:
            self._model.load_state_dict(self._average.module.state_dict())

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The optimiser's and the moving average's, to be saved."""
        average = {} if self._average is None else self._average.state_dict()
        return self._optimiser.state_dict(), average


def _moving_average(model: RideModel, decay: float) -> AveragedModel:
    """Of weights and batch statistics."""
    return AveragedModel(
        model,
        multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
