"""What every expert has in common, and what a family of networks must be able to do."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Protocol

from torch import Tensor, nn

from training.backbones.classifier import build_classifier
from training.config import ModelConfig

REDUCED_SHARE = 3 / 4
"""Width of a reduced stage of an ImageNet network (RIDE, appendix: 256 -> 192, 512 -> 384)."""


class Expert(nn.Module):
    """The late stages of a network, pooling and a classifier.

    Args of `forward`: the trunk's features. Returns logits [N, C] and the embedding [N, D], where
    D is `embedding_size`.
    """

    embedding_size: int
    classifier: nn.Module

    def embed(self, features: Tensor) -> Tensor:
        """The pooled last feature: the trunk's features -> [N, D]."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embed(features)
        return self.classifier(embedding), embedding


class TorchvisionExpert(Expert):
    """An expert out of torchvision's modules.

    `body` holds everything up to the embedding. Its tensors are named as in torchvision's whole
    network, so that published weights find their place.
    """

    def __init__(self, body: nn.Sequential, embedding_size: int, config: ModelConfig) -> None:
        super().__init__()
        self.body = body
        self.embedding_size = embedding_size
        self.classifier = build_classifier(
            embedding_size, config.num_classes, cosine=config.cosine_classifier
        )

    def embed(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.body(features)
        return embedding


class Architecture(Protocol):
    """A family of networks that can be cut.

    Attributes:
        cuts: the stages that can be an expert's first; the usual one comes first.
        published_classifier: the name that torchvision's whole network has for its classifier;
            None if torchvision does not have this network.
    """

    cuts: ClassVar[tuple[str, ...]]
    published_classifier: ClassVar[str | None]

    def trunk(self, cut: str) -> nn.Module:
        """Everything before the cut, at full width: normalised image [N, 3, H, W] -> features."""

    def expert(self, cut: str, config: ModelConfig) -> Expert:
        """Everything from the cut on, with fewer channels if `config.reduced_width`."""


def chain(**stages: nn.Module) -> nn.Sequential:
    """Stages in a row, under names."""
    return nn.Sequential(OrderedDict(stages))
