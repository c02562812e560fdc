"""Stage one's loss: every expert's own loss, the diversity between them (RIDE, equation 3), and
what later work adds: prior adjustments, distillation, consistency.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import BaseLoss, DistillationForm, DiversityForm, LossConfig
from training.errors import DataError
from training.losses.balanced_softmax import expert_adjustments
from training.losses.consistency import consistency_loss
from training.losses.cross_entropy import cross_entropy_loss
from training.losses.distillation import distillation_loss
from training.losses.diversity import class_temperatures, diversity_from_mean, diversity_pairwise
from training.losses.focal import focal_loss
from training.losses.ldam import effective_number_weights, ldam_loss, ldam_margins
from training.losses.targets import Targets
from training.losses.validation import check_loss_config


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
        ConfigError: if a setting is out of range.
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
        check_loss_config(config)
        if 0 in class_counts:
            raise DataError(f"class {class_counts.index(0)} (from 0) has no training images")
        counts = torch.tensor(class_counts)
        self._config = config
        self._scale = scale
        self._margins = ldam_margins(counts, config.max_margin).to(device)
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
        loss = targets.blend(lambda labels: self._base(adjusted, labels, phase.weights))
        loss = loss + config.diversity_weight * self._diversity(logits, phase.temperatures)
        if config.distillation_weight:
            assert teacher_mean is not None, "distillation needs a teacher"
            loss = loss + config.distillation_weight * self._distillation(
                logits, teacher_mean.float()
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

    def _base(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        return torch.stack([self._base_of_one(expert, labels, weights) for expert in logits]).sum()

    def _base_of_one(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        match self._config.base:
            case BaseLoss.LDAM:
                return ldam_loss(logits, labels, self._margins, self._scale, weights)
            case BaseLoss.FOCAL:
                return focal_loss(logits, labels, self._config.focal_gamma, weights)
            case BaseLoss.CROSS_ENTROPY | BaseLoss.BALANCED_SOFTMAX:
                return cross_entropy_loss(logits, labels, weights)

    def _distillation(self, logits: Tensor, teacher_mean: Tensor) -> Tensor:
        temperature = self._config.distillation_temperature
        match self._config.distillation:
            case DistillationForm.MEAN:
                return distillation_loss(logits.mean(dim=0), teacher_mean, temperature)
            case DistillationForm.EACH:
                losses = [distillation_loss(z, teacher_mean, temperature) for z in logits]
                return torch.stack(losses).sum()

    def _diversity(self, logits: Tensor, temperatures: Tensor) -> Tensor:
        match self._config.diversity:
            case DiversityForm.MEAN:
                return diversity_from_mean(logits, temperatures)
            case DiversityForm.PAIRWISE:
                return diversity_pairwise(logits, temperatures)
            case DiversityForm.NONE:
                return logits.new_zeros(())
