"""Go on where the probabilities are spread over many classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.routers.score import as_score


def normalised_entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits [N, C]) as a share of its maximum, log C, [N]."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
    return entropy / math.log(logits.shape[1])


class EntropyRouter(nn.Module):
    """Scores the entropy of the prefix. Nothing to learn."""

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:  # noqa: ARG002
        return as_score(normalised_entropy(prefix_logits))
