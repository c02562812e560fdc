"""Families with as few blocks as have every kind of block, for tests that need not be exact."""

from __future__ import annotations

import pytest
from torchvision.models.resnet import Bottleneck

from training.backbones.convnext import ConvNeXtFamily
from training.backbones.expert import Architecture
from training.backbones.families import FAMILIES
from training.backbones.resnet import ResNetFamily
from training.backbones.swin import SwinFamily
from training.config import Family

_RESNET = ResNetFamily(Bottleneck, (1, 1, 1, 1))
SHORT: dict[Family, Architecture] = {
    Family.RESNET50: _RESNET,
    Family.RESNET101: _RESNET,
    Family.RESNET152: _RESNET,
    Family.RESNEXT50: ResNetFamily(Bottleneck, (1, 1, 2, 1), groups=32, width_per_group=4),
    Family.SWIN_T: SwinFamily((2, 1, 1, 1)),
    Family.SWIN_S: SwinFamily((2, 1, 1, 1)),
    Family.CONVNEXT_T: ConvNeXtFamily((1, 1, 1, 1)),
}
ONE_OF_EACH_KIND = (
    Family.RESNET32,
    Family.RESNET10,
    Family.RESNEXT50,
    Family.SWIN_T,
    Family.CONVNEXT_T,
    Family.MOBILENET_V3,
)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, these families are short."""
    for family, architecture in SHORT.items():
        monkeypatch.setitem(FAMILIES, family, architecture)
