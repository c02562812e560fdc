"""RideModel: normalisation, one backbone, K experts, K-1 routers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.backbones import build_parts
from training.config import ModelConfig
from training.routers.registry import build_routers


class Backbone(nn.Module):
    """Normalisation and the shared trunk.

    Args of `forward`: image fp32 [N, 3, H, W] in [0, 1]. Returns the trunk's features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1), persistent=False)
        self.trunk = trunk

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.trunk((image - self.mean) / self.std)
        return features


@dataclass(frozen=True)
class ExpertOutputs:
    """What every expert says: logits [K, N, C] and embeddings [K, N, D]."""

    logits: Tensor
    embeddings: Tensor


class RideModel(nn.Module):
    """The whole model.

    Args of `forward`: image fp32 [N, 3, H, W] in [0, 1]. Returns every expert's outputs.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        parts = build_parts(config)
        self.backbone = Backbone(parts.trunk, config)
        self.experts = nn.ModuleList(parts.experts)
        self.routers = build_routers(config, parts.experts)

    def forward(self, image: Tensor) -> ExpertOutputs:
        features = self.backbone(image)
        outputs = [expert(features) for expert in self.experts]
        return ExpertOutputs(
            torch.stack([logits.float() for logits, _ in outputs]),
            torch.stack([embedding.float() for _, embedding in outputs]),
        )


def prefix_means(logits: Tensor, corrections: Tensor | None = None) -> Tensor:
    """Mean logits of the first 1, 2, .. K experts: [K, N, C] -> [K, N, C].

    Corrections [K, C], if any, are added to the mean of each prefix.
    """
    counts = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    means = logits.cumsum(dim=0) / counts
    return means if corrections is None else means + corrections.to(means).unsqueeze(1)
