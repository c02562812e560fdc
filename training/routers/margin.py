"""Go on where the two most probable classes are close."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.routers.score import as_score


def closeness(logits: Tensor) -> Tensor:
    """1 - (p_1 - p_2), the two largest probabilities of logits [N, C], [N]."""
    best = torch.softmax(logits, dim=1).topk(2, dim=1).values
    return 1 - (best[:, 0] - best[:, 1])


class MarginRouter(nn.Module):
    """Scores one minus the margin. Nothing to learn."""

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:  # noqa: ARG002
        return as_score(closeness(prefix_logits))
