"""Stage two: what a router learns (RIDE, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import RouterConfig
from training.model import Router


def router_labels(prefixes: Tensor, labels: Tensor) -> Tensor:
    """Whether a further expert helps: bool [K-1, N].

    Row i is true where the mean of the first i experts is wrong and the mean of some longer
    prefix is right. Args: prefix means [K, N, C], labels int64 [N].
    """
    right = prefixes.argmax(dim=2) == labels  # [K, N]
    later = torch.flip(torch.cummax(torch.flip(right[1:].int(), [0]), dim=0).values, [0]).bool()
    return ~right[:-1] & later


def router_loss(
    routers: nn.ModuleList,
    embeddings: Tensor,
    prefixes: Tensor,
    labels: Tensor,
    config: RouterConfig,
) -> Tensor:
    """Binary cross-entropy, a weighted mean over the batch, summed over routers.

    It is divided by the sum of the weights, as PyTorch's weighted cross-entropy is. Divided by the
    batch's size, a weight of 100 would be a hundredfold learning rate: training then overshoots and
    the scores end at 0 or 1, where no threshold tells them apart.

    Args: embeddings [K, N, D], prefix means [K, N, C], labels int64 [N].
    """
    helped = router_labels(prefixes, labels)
    total = prefixes.new_zeros(())
    for i, router in enumerate(routers):
        assert isinstance(router, Router)
        target = helped[i].float()
        weight = torch.where(helped[i], config.positive_weight, config.negative_weight)
        logit = router.logit(embeddings[i], prefixes[i])
        losses = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        total = total + (weight * losses).sum() / weight.sum()
    return total
