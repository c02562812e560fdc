"""LDAM: larger margins for rarer classes, and the class weights of deferred re-weighting.

Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS
2019: margins are equation 13; the weights are the effective number of samples of Cui et al.,
CVPR 2019, equation 2.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def ldam_margins(class_counts: Tensor, max_margin: float) -> Tensor:
    """m_k = max_margin * n_k^(-1/4) / max_j n_j^(-1/4), fp32 [C]."""
    margins = class_counts.double().pow(-0.25)
    return (max_margin * margins / margins.max()).float()


def effective_number_weights(class_counts: Tensor, beta: float) -> Tensor:
    """w_k ~ (1 - beta) / (1 - beta^n_k), scaled to sum to C, fp32 [C]."""
    weights = (1 - beta) / (1 - beta ** class_counts.double())
    return (weights * len(weights) / weights.sum()).float()


def ldam_loss(
    logits: Tensor, labels: Tensor, margins: Tensor, scale: float, weights: Tensor | None = None
) -> Tensor:
    """CE_w(z - s * m_y * e_y, y).

    Args: logits [N, C] that already carry the scale s of the cosine classifier; labels int64 [N];
    margins [C]; optional class weights [C], with which the mean is a weighted mean.
    """
    shift = scale * margins[labels]
    shifted = logits.scatter_add(1, labels.unsqueeze(1), -shift.unsqueeze(1).to(logits.dtype))
    return F.cross_entropy(shifted, labels, weight=weights)
