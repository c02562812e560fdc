"""Families with as few blocks as have every kind of block, for tests that need not be exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torchvision.models.resnet import Bottleneck

from training.backbones import mobilenet, resnet32
from training.backbones.convnext import ConvNeXtFamily
from training.backbones.expert import Architecture
from training.backbones.registry import FAMILIES
from training.backbones.resnet import ResNetFamily
from training.backbones.swin import SwinFamily
from training.choices import Family

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

_MOBILENET_BLOCKS = tuple(mobilenet._BLOCKS[row] for row in (0, 1, 3, 6, 7, 12, 13))
_MOBILENET_BLOCKS_BEFORE = {"stage4": 3, "stage5": 5}


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, these families are short."""
    for family, architecture in SHORT.items():
        monkeypatch.setitem(FAMILIES, family, architecture)


@contextmanager
def shortened() -> Iterator[None]:
    """Shorter still, and those whose depth is no setting too; torchvision has no such networks."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        patch.setitem(FAMILIES, Family.SWIN_T, SwinFamily((2, 0, 1, 0)))
        patch.setattr(resnet32, "STAGE_BLOCKS", 1)
        patch.setattr(mobilenet, "_BLOCKS", _MOBILENET_BLOCKS)
        patch.setattr(mobilenet, "_BLOCKS_BEFORE", _MOBILENET_BLOCKS_BEFORE)
        yield
