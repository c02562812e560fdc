"""From an embedding to logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COSINE_SCALE = 30.0


class CosineClassifier(nn.Module):
    """Scaled cosine similarity to one direction per class: z = s * normalise(w)^T normalise(f).

    Args of `forward`: embedding [N, D]. Returns logits [N, C]. No bias, so that a class gains
    nothing from being frequent (Cao et al., "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019).
    """

    def __init__(self, embedding_size: int, num_classes: int, scale: float = COSINE_SCALE) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh directions, as torch names it for its own layers."""
        nn.init.kaiming_normal_(self.weight)

    def forward(self, embedding: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(embedding.device.type):
            return self._logits(embedding)
        # In bf16 a logit near 30 would be good to an eighth only.
        with torch.autocast(embedding.device.type, enabled=False):
            return self._logits(embedding.float())

    def _logits(self, embedding: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(embedding), F.normalize(self.weight))


def build_classifier(embedding_size: int, num_classes: int, *, cosine: bool) -> nn.Module:
    """Embedding [N, D] -> logits [N, C], by angles or linearly."""
    if cosine:
        return CosineClassifier(embedding_size, num_classes)
    return nn.Linear(embedding_size, num_classes)
