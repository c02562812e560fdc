"""Cross-entropy, the loss that all others are compared with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_n w_y CE(z_n, y_n) / sum_n w_y.

    Args: logits [N, C]; labels int64 [N]; optional class weights [C].
    """
    return F.cross_entropy(logits, labels, weight=weights)
