"""Which losses there are; `training.losses.ride` adds them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from training.choices import BaseLoss, DistillationForm, DiversityForm
from training.config import LossConfig
from training.losses.cross_entropy import cross_entropy_loss
from training.losses.distillation import distil_each, distil_mean
from training.losses.diversity import diversity_from_mean, diversity_pairwise, no_diversity
from training.losses.focal import focal_loss
from training.losses.ldam import ldam_loss, ldam_margins


class ExpertLoss(Protocol):
    """One expert's own loss: logits [N, C], labels int64 [N], class weights [C] -> a scalar."""

    def __call__(self, logits: Tensor, labels: Tensor, *, weights: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class LossContext:
    """What an expert's loss may depend on besides its batch.

    `class_counts` is int64 [C] on the CPU; `scale` is that of the classifier's logits.
    """

    config: LossConfig
    class_counts: Tensor
    scale: float
    device: torch.device

    @property
    def margins(self) -> Tensor:
        """LDAM's, fp32 [C] on the device."""
        return ldam_margins(self.class_counts, self.config.max_margin).to(self.device)


BASE_LOSSES: dict[BaseLoss, Callable[[LossContext], ExpertLoss]] = {
    BaseLoss.LDAM: lambda of: partial(ldam_loss, margins=of.margins, scale=of.scale),
    BaseLoss.CROSS_ENTROPY: lambda _: cross_entropy_loss,
    BaseLoss.FOCAL: lambda of: partial(focal_loss, gamma=of.config.focal_gamma),
    BaseLoss.BALANCED_SOFTMAX: lambda _: cross_entropy_loss,  # of logits with the prior added
}

DIVERSITIES: dict[DiversityForm, Callable[[Tensor, Tensor], Tensor]] = {
    DiversityForm.MEAN: diversity_from_mean,
    DiversityForm.PAIRWISE: diversity_pairwise,
    DiversityForm.NONE: no_diversity,
}
"""Of logits [K, N, C] and temperatures [C]."""

DISTILLATIONS: dict[DistillationForm, Callable[[Tensor, Tensor, float], Tensor]] = {
    DistillationForm.MEAN: distil_mean,
    DistillationForm.EACH: distil_each,
}
"""Of logits [K, N, C], the teacher's mean logits [N, C] and a temperature."""
