"""The CIFAR ResNet-32 (He et al., "Deep Residual Learning", CVPR 2016, section 4.2), cut in two.

Its channels may be multiplied, as teachers are made for distillation: resnet32x4 (Tian et al.,
"Contrastive Representation Distillation", ICLR 2020, appendix).
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.classifier import build_classifier
from training.backbones.expert import Expert
from training.config import ModelConfig

REDUCED_WIDTHS = (24, 48)
FULL_WIDTHS = (32, 64)
STAGE_BLOCKS = 5
TRUNK_WIDTH = 16


class PaddedShortcut(nn.Module):
    """Option A of He et al. 2016: subsample by two, zero-pad channels on both sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], self.padding)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = PaddedShortcut(in_channels, out_channels) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # In place, where no gradient needs what is overwritten: memory is the bottleneck of a CPU.
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out)).add_(self.shortcut(x))
        return F.relu(out, inplace=True)


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    rest = [BasicBlock(out_channels, out_channels, 1) for _ in range(STAGE_BLOCKS - 1)]
    return nn.Sequential(first, *rest)


class ResNet32Trunk(nn.Module):
    """The shared part of a CIFAR ResNet-32: first convolution and stage one.

    Args of `forward`: normalised image [N, 3, H, W]. Returns features [N, 16, H, W]; with stage
    two, if the cut is at stage3, [N, 32, H/2, W/2]; `times` as many channels.
    """

    def __init__(self, cut: str, times: int = 1) -> None:
        super().__init__()
        width = TRUNK_WIDTH * times
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, stride=1)
        shared = cut == "stage3"
        self.stage2 = _stage(width, FULL_WIDTHS[0] * times, stride=2) if shared else nn.Identity()
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.stage2(self.stage1(F.relu(self.bn(self.conv(image)))))
        return features


class ResNet32Expert(Expert):
    """Stages two and three of a CIFAR ResNet-32, or three alone, and a classifier."""

    def __init__(self, cut: str, config: ModelConfig, times: int = 1) -> None:
        super().__init__()
        widths = REDUCED_WIDTHS if config.reduced_width else FULL_WIDTHS
        width2, width3 = (width * times for width in widths)
        if cut == "stage3":
            stage2: nn.Module = nn.Identity()
            width2 = FULL_WIDTHS[0] * times
        else:
            stage2 = _stage(TRUNK_WIDTH * times, width2, stride=2)
        self.stage2 = stage2
        self.stage3 = _stage(width2, width3, stride=2)
        self.embedding_size = width3
        _initialise(self)
        self.classifier = build_classifier(
            width3, config.num_classes, cosine=config.cosine_classifier
        )

    def embed(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.stage3(self.stage2(features)).mean(dim=(2, 3))
        return embedding


class ResNet32Family:
    """RIDE's cut for CIFAR: stage one is shared, experts have 24 and 48 channels if reduced.

    All of them are multiplied by `times`.
    """

    cuts: ClassVar[tuple[str, ...]] = ("stage2", "stage3")
    published_classifier: ClassVar[str | None] = None

    def __init__(self, times: int = 1) -> None:
        self._times = times

    def trunk(self, cut: str) -> ResNet32Trunk:
        """First convolution and stage one, at full width."""
        return ResNet32Trunk(cut, self._times)

    def expert(self, cut: str, config: ModelConfig) -> ResNet32Expert:
        """The later stages."""
        return ResNet32Expert(cut, config, self._times)


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
