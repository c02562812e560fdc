"""The CIFAR ResNet-32 (He et al., "Deep Residual Learning", CVPR 2016, section 4.2), cut in two."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.classifier import build_classifier

REDUCED_WIDTHS = (24, 48)
FULL_WIDTHS = (32, 64)
STAGE_BLOCKS = 5
TRUNK_WIDTH = 16


class PaddedShortcut(nn.Module):
    """Option A of He et al. 2016: subsample by two, zero-pad channels on both sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
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
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    rest = [BasicBlock(out_channels, out_channels, 1) for _ in range(STAGE_BLOCKS - 1)]
    return nn.Sequential(first, *rest)


class ResNet32Trunk(nn.Module):
    """The shared part of a CIFAR ResNet-32: first convolution and stage one.

    Args of `forward`: normalised image [N, 3, H, W]. Returns features [N, 16, H, W].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, TRUNK_WIDTH, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(TRUNK_WIDTH)
        self.stage1 = _stage(TRUNK_WIDTH, TRUNK_WIDTH, stride=1)
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.stage1(F.relu(self.bn(self.conv(image))))
        return features


class ResNet32Expert(nn.Module):
    """Stages two and three of a CIFAR ResNet-32 and a classifier.

    Args of `forward`: features [N, 16, H, W]. Returns logits [N, C] and the pooled last feature,
    the embedding, [N, D].
    """

    def __init__(self, num_classes: int, *, reduced: bool, cosine: bool) -> None:
        super().__init__()
        width2, width3 = REDUCED_WIDTHS if reduced else FULL_WIDTHS
        self.stage2 = _stage(TRUNK_WIDTH, width2, stride=2)
        self.stage3 = _stage(width2, width3, stride=2)
        self.embedding_size = width3
        _initialise(self)
        self.classifier = build_classifier(width3, num_classes, cosine=cosine)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.stage3(self.stage2(features)).mean(dim=(2, 3))
        return self.classifier(embedding), embedding


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
