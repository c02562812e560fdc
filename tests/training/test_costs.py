"""Multiply-adds against sums worked out by hand."""

from __future__ import annotations

import pytest

from serving.model.manifest import MultiplyAdds
from tests.short_networks import shorten
from training.choices import Family
from training.config import ModelConfig
from training.costs import multiply_adds
from training.model import RideModel


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def costs(family: Family, image_size: int) -> MultiplyAdds:
    config = ModelConfig(backbone=family, num_classes=5, num_experts=2, router_top_logits=5)
    return multiply_adds(RideModel(config).eval(), image_size)


@pytest.mark.parametrize("size", [32, 48])
def test_convolutions_grow_with_the_area_of_the_image(size: int) -> None:
    found = costs(Family.RESNET32, size)
    stage2 = size**2 // 4 * 9 * (16 * 24 + 9 * 24 * 24)
    stage3 = size**2 // 16 * 9 * (24 * 48 + 9 * 48 * 48)
    assert found.backbone == size**2 * 9 * (3 * 16 + 10 * 16 * 16)
    assert found.experts == (stage2 + stage3 + 48 * 5,) * 2
    assert found.routers == (48 * 16 + 16 + 5,)


def test_a_grouped_convolution_costs_a_group_of_its_inputs() -> None:
    """Blocks 2 + 1, images of 64 pixels: 8 by 8 before layer3, 4 by 4 and 2 by 2 behind."""

    def block(before: int, after: int, inputs: int, inner: int, outputs: int) -> int:
        return before * inputs * inner + after * (9 * inner * inner // 32 + inner * outputs)

    layer3 = block(64, 16, 512, 384, 768) + 16 * 512 * 768 + block(16, 16, 768, 384, 768)
    layer4 = block(16, 4, 768, 768, 1536) + 4 * 768 * 1536
    assert costs(Family.RESNEXT50, 64).experts == (layer3 + layer4 + 1536 * 5,) * 2


def test_attention_costs_its_projections_and_both_products() -> None:
    """One window in each stage: 4 by 4 and 2 by 2 patches, padded to 7 by 7 for attention."""

    def block(patches: int, width: int) -> int:
        window = 49
        attention = 4 * window * width**2 + 2 * window**2 * width
        return attention + patches * 2 * width * 4 * width

    stage3 = 16 * 4 * 192 * 288 + block(16, 288)
    stage4 = 4 * 4 * 288 * 576 + block(4, 576)
    assert costs(Family.SWIN_T, 64).experts == (stage3 + stage4 + 576 * 5,) * 2
