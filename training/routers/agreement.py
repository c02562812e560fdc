"""Go on where the newest expert disagrees with the experts before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config import ModelConfig
from training.routers.max_probability import MaxProbabilityRouter
from training.routers.score import as_score


def disagreement(logits: Tensor, others: Tensor) -> Tensor:
    """Total variation between softmax(logits) and softmax(others), both [N, C]: [N] in [0, 1].

    It is 1 - sum_c min(p_c, q_c): 0 for equal distributions, 1 for those that share no class.
    """
    p, q = torch.softmax(logits, dim=1), torch.softmax(others, dim=1)
    return 1 - torch.minimum(p, q).sum(dim=1)


def earlier_mean(prefix_logits: Tensor, newest: Tensor, experts: int) -> Tensor:
    """Mean logits of the first k - 1 experts, from the mean of k and the newest's own, [N, C].

    A correction of prefix k, if there is one, stays in: it counts as what all k experts said.
    """
    return (experts * prefix_logits - newest) / (experts - 1)


class AgreementRouter(nn.Module):
    """Scores the disagreement of expert k with the mean of experts 1..k-1. Nothing to learn.

    A router is given no logits of single experts, so it works out those of its expert from the
    embedding, with the expert's own classifier.
    """

    def __init__(self, experts: int, classifier: nn.Module) -> None:
        super().__init__()
        self.experts = experts
        self.classifier = classifier

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:
        newest = self.classifier(embedding)
        earlier = earlier_mean(prefix_logits, newest, self.experts)
        return as_score(disagreement(newest, earlier))


def agreement_routers(_config: ModelConfig, experts: Sequence[nn.Module]) -> list[nn.Module]:
    """After one expert nobody can disagree yet: its router looks at the largest probability."""
    return [
        AgreementRouter(count, expert.get_submodule("classifier"))
        if count > 1
        else MaxProbabilityRouter()
        for count, expert in enumerate(experts, start=1)
    ]
