"""Focal loss: images that are already right count less.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(
    logits: Tensor, labels: Tensor, gamma: float, weights: Tensor | None = None
) -> Tensor:
    """-(1 - p_y)^gamma * log p_y, with p = softmax(z).

    Args: logits [N, C]; labels int64 [N]; optional class weights [C], with which the mean is a
    weighted mean, as it is for LDAM and cross-entropy.
    """
    log_p = F.log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    # expm1 keeps 1 - p exact where p is close to 1. Where it is 1, a gamma below 1 has an infinite
    # slope, which times a loss of nil would be NaN: a floor too small to matter prevents it.
    miss = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    losses = -(miss**gamma) * log_p
    if weights is None:
        return losses.mean()
    weight = weights[labels]
    return (weight * losses).sum() / weight.sum()
