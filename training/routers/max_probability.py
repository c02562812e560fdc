"""Go on where the most probable class is not probable enough."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.routers.score import as_score


def doubt(logits: Tensor) -> Tensor:
    """1 - max_c p_c of logits [N, C], [N] (Hendrycks and Gimpel, ICLR 2017)."""
    return 1 - torch.softmax(logits, dim=1).amax(dim=1)


class MaxProbabilityRouter(nn.Module):
    """Scores one minus the largest probability. Nothing to learn."""

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:  # noqa: ARG002
        return as_score(doubt(prefix_logits))
