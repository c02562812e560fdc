"""Stage one's loss: every expert's own loss, the diversity between them (RIDE, equation 3), and
what later work adds: prior adjustments, distillation, consistency.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import LossConfig
from training.errors import DataError
from training.losses.balanced_softmax import expert_adjustments
from training.losses.consistency import consistency_loss
from training.losses.diversity import class_temperatures
from training.losses.ldam import effective_number_weights
from training.losses.registry import BASE_LOSSES, DISTILLATIONS, DIVERSITIES, LossContext
from training.losses.targets import Targets


@dataclass(frozen=True)
class _Phase:
    """What deferred re-weighting changes: class weights [C] and diversity temperatures [C]."""

    weights: Tensor | None
    temperatures: Tensor


class RideLoss:
    """The sum over experts of base loss and weighted diversity, then distillation and consistency.

    From `reweighting_epoch` on (deferred re-weighting) classes are weighted and the diversity
    temperature is class-wise; before it, weights are absent and the temperature is eta. Base loss
    and consistency see adjusted logits, diversity and distillation the experts' own.

    `scale` is that of the cosine classifier, 1 for a plain one.

    Raises:
        ConfigError: if `temperature_gamma` leaves a class no positive temperature.
        DataError: if a class has no images: its margin, weight and prior would be infinite.
    """

    def __init__(
        self,
        config: LossConfig,
        class_counts: tuple[int, ...],
        num_experts: int,
        scale: float,
        device: torch.device,
    ) -> None:
        if 0 in class_counts:
            raise DataError(f"class {class_counts.index(0)} (from 0) has no training images")
        counts = torch.tensor(class_counts)
        self._config = config
        self._base = BASE_LOSSES[config.base](LossContext(config, counts, scale, device))
        self._diversity = DIVERSITIES[config.diversity]
        self._distillation = DISTILLATIONS[config.distillation]
        adjustments = expert_adjustments(config, counts, num_experts)
        self._adjustments = adjustments.unsqueeze(1).to(device)  # [K, 1, C]
        temperatures = class_temperatures(
            counts, config.temperature, config.temperature_eta, config.temperature_gamma
        )
        weights = effective_number_weights(counts, config.reweighting_beta)
        self._early = _Phase(None, torch.full_like(temperatures, config.temperature_eta).to(device))
        self._late = _Phase(weights.to(device), temperatures.to(device))

    def __call__(
        self,
        logits: Tensor,
        targets: Targets,
        epoch: int,
        *,
        weak_logits: Tensor | None = None,
        teacher_mean: Tensor | None = None,
    ) -> Tensor:
        """The loss of one batch, an fp32 scalar.

        Args: logits [K, N, C]; weak_logits [K, N, C] of the same images weakly augmented, needed
        where consistency has a weight; teacher_mean [N, C], the teacher's mean logits on the
        same images, needed where distillation has one.
        """
        config = self._config
        start = config.reweighting_epoch
        phase = self._late if start is not None and epoch >= start else self._early
        logits = logits.float()
        adjusted = logits + self._adjustments
        loss = targets.blend(
            lambda labels: torch.stack(
                [self._base(expert, labels, weights=phase.weights) for expert in adjusted]
            ).sum()
        )
        loss = loss + config.diversity_weight * self._diversity(logits, phase.temperatures)
        if config.distillation_weight:
            assert teacher_mean is not None, "distillation needs a teacher"
            loss = loss + config.distillation_weight * self._distillation(
                logits, teacher_mean.float(), config.distillation_temperature
            )
        if config.consistency_weight:
            assert weak_logits is not None, "consistency needs a weak view"
            loss = loss + config.consistency_weight * consistency_loss(
                adjusted,
                weak_logits.float() + self._adjustments,
                targets.dominant,
                config.consistency_temperature,
            )
        return loss
