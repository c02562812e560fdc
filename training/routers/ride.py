"""RIDE's router and what it learns in stage two (RIDE, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ModelConfig, RouterConfig
from training.routers.score import as_score


class RideRouter(nn.Module):
    """A small network on the normalised embedding and the largest prefix logits.

    The last linear layer is one object that all routers share. `logit` is the score before the
    sigmoid, [N].
    """

    def __init__(self, embedding_size: int, width: int, top_logits: int, output: nn.Linear) -> None:
        super().__init__()
        self.top_logits = top_logits
        self.hidden = nn.Linear(embedding_size, width)
        self.output = output

    def logit(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:
        hidden = F.relu(self.hidden(F.normalize(embedding)))
        top = prefix_logits.topk(self.top_logits, dim=1).values
        score: Tensor = self.output(torch.cat((top, hidden), dim=1))
        return score.squeeze(1)

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:
        return as_score(torch.sigmoid(self.logit(embedding, prefix_logits)))


def ride_routers(config: ModelConfig, experts: Sequence[nn.Module]) -> list[nn.Module]:
    """One router for each expert, with a last layer that they share."""
    width, top_logits = config.router_width, config.router_top_logits
    output = nn.Linear(top_logits + width, 1)
    sizes = [cast("int", expert.embedding_size) for expert in experts]
    return [RideRouter(size, width, top_logits, output) for size in sizes]


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
        assert isinstance(router, RideRouter)
        target = helped[i].float()
        weight = torch.where(helped[i], config.positive_weight, config.negative_weight)
        logit = router.logit(embeddings[i], prefixes[i])
        losses = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        total = total + (weight * losses).sum() / weight.sum()
    return total
