"""RideModel: normalisation, one backbone, K experts, K-1 routers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones import build_parts
from training.config import ModelConfig


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


class Router(nn.Module):
    """Scores how much a further expert would help (RIDE, section 3.3).

    The last linear layer is one object that all routers share.

    Args of `forward`: embedding [N, D] of the latest expert, prefix_logits [N, C] (mean of the
    experts so far). `forward` returns the score in [0, 1], [N]; `logit` the same before the
    sigmoid.
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
        return torch.sigmoid(self.logit(embedding, prefix_logits))


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
        top_logits = min(config.router_top_logits, config.num_classes)
        output = nn.Linear(top_logits + config.router_width, 1)
        self.routers = nn.ModuleList(
            Router(parts.experts[0].embedding_size, config.router_width, top_logits, output)
            for _ in range(config.num_experts - 1)
        )

    def forward(self, image: Tensor) -> ExpertOutputs:
        features = self.backbone(image)
        outputs = [expert(features) for expert in self.experts]
        return ExpertOutputs(
            torch.stack([logits.float() for logits, _ in outputs]),
            torch.stack([embedding.float() for _, embedding in outputs]),
        )


def prefix_means(logits: Tensor) -> Tensor:
    """Mean logits of the first 1, 2, .. K experts: [K, N, C] -> [K, N, C]."""
    counts = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    return logits.cumsum(dim=0) / counts
