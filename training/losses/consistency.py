"""Consistency: an expert sees a strongly augmented image as it sees a weakly augmented one.

Zhao et al., "MDCS: More Diverse Experts with Consistency Self-distillation for Long-tailed
Recognition", ICCV 2023.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def consistency_loss(strong: Tensor, weak: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """sum_e T^2 * mean_n KL(softmax(stopgrad(weak_en) / T) || softmax(strong_en / T)).

    The mean is over the images whose weak view expert e classifies correctly ("confident instance
    sampling"), not over the batch, as in the authors' code; it is nil if there is none. Also as
    there, both logits are what the expert learns with, prior adjustment included.

    Args: strong and weak logits [K, N, C] of two views of the same images; labels int64 [N].
    """
    weak = weak.detach()
    learner = F.log_softmax(strong / temperature, dim=2)
    example = F.log_softmax(weak / temperature, dim=2)
    divergence = F.kl_div(learner, example, reduction="none", log_target=True).sum(dim=2)
    right = weak.argmax(dim=2) == labels
    # A count on the device, never on the host: nothing waits.
    mean = (divergence * right).sum(dim=1) / right.sum(dim=1).clamp_min(1)
    return temperature**2 * mean.sum()
