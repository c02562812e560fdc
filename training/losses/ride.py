"""Stage one's loss: every expert's own loss, and the diversity between them (RIDE, equation 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import BaseLoss, DiversityForm, LossConfig
from training.losses.balanced_softmax import prior_adjustments
from training.losses.diversity import class_temperatures, diversity_from_mean, diversity_pairwise
from training.losses.ldam import effective_number_weights, ldam_loss, ldam_margins


class RideLoss:
    """The sum over experts of base loss and weighted diversity.

    From `reweighting_epoch` on (deferred re-weighting) classes are weighted and the diversity
    temperature is class-wise; before it, weights are absent and the temperature is eta.
    """

    def __init__(
        self, config: LossConfig, class_counts: tuple[int, ...], scale: float, device: torch.device
    ) -> None:
        counts = torch.tensor(class_counts)
        self._config = config
        self._counts = counts.to(device)
        balanced = config.base is BaseLoss.BALANCED_SOFTMAX and config.prior_strengths == (0.0,)
        self._strengths = (1.0,) if balanced else config.prior_strengths
        self._scale = scale
        self._margins = ldam_margins(counts, config.max_margin).to(device)
        self._weights = effective_number_weights(counts, config.reweighting_beta).to(device)
        self._temperatures = class_temperatures(
            counts, config.temperature, config.temperature_eta, config.temperature_gamma
        ).to(device)

    def __call__(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Args: logits [K, N, C], labels int64 [N]. Returns a scalar."""
        start = self._config.reweighting_epoch
        deferred = start is not None and epoch >= start
        weights = self._weights if deferred else None
        adjustments = prior_adjustments(self._counts, self._strengths, len(logits))
        adjusted = logits + adjustments.unsqueeze(1)
        base = torch.stack([self._base(expert, labels, weights) for expert in adjusted]).sum()
        temperatures = (
            self._temperatures
            if deferred
            else torch.full_like(self._temperatures, self._config.temperature_eta)
        )
        return base + self._config.diversity_weight * self._diversity(logits, temperatures)

    def _base(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        if self._config.base is BaseLoss.LDAM:
            return ldam_loss(logits, labels, self._margins, self._scale, weights)
        return F.cross_entropy(logits, labels, weight=weights)

    def _diversity(self, logits: Tensor, temperatures: Tensor) -> Tensor:
        match self._config.diversity:
            case DiversityForm.MEAN:
                return diversity_from_mean(logits, temperatures)
            case DiversityForm.PAIRWISE:
                return diversity_pairwise(logits, temperatures)
            case DiversityForm.NONE:
                return logits.new_zeros(())
