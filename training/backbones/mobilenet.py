"""MobileNetV3-Large, out of torchvision's modules, cut in two.

Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from training.backbones.expert import REDUCED_SHARE, TorchvisionExpert, chain
from training.config import ModelConfig


@dataclass(frozen=True)
class _Block:
    """A row of table 1: an inverted residual; SE is squeeze-and-excitation, HS hard swish."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    activation: str
    stride: int


_STEM_WIDTH, _LAST_WIDTH = 16, 1280
_BLOCKS = (
    _Block(3, 16, 16, False, "RE", 1),
    _Block(3, 64, 24, False, "RE", 2),
    _Block(3, 72, 24, False, "RE", 1),
    _Block(5, 72, 40, True, "RE", 2),
    _Block(5, 120, 40, True, "RE", 1),
    _Block(5, 120, 40, True, "RE", 1),
    _Block(3, 240, 80, False, "HS", 2),
    _Block(3, 200, 80, False, "HS", 1),
    _Block(3, 184, 80, False, "HS", 1),
    _Block(3, 184, 80, False, "HS", 1),
    _Block(3, 480, 112, True, "HS", 1),
    _Block(3, 672, 112, True, "HS", 1),
    _Block(5, 672, 160, True, "HS", 2),
    _Block(5, 960, 160, True, "HS", 1),
    _Block(5, 960, 160, True, "HS", 1),
)
_BLOCKS_BEFORE = {"stage4": 6, "stage5": 12}


@dataclass(frozen=True)
class MobileNetV3Family:
    """Stage n works at 1/2^n of the image's size; experts have stages 4 and 5, or 5 alone.

    The hidden layer behind the pooling belongs to the experts too; what it gives is the embedding.
    In reduced experts every width is 3/4, rounded to a multiple of 8 as the paper's width
    multiplier rounds. There is no dropout, since it would draw from the global generator.
    """

    cuts: ClassVar[tuple[str, ...]] = ("stage4", "stage5")
    published_classifier: ClassVar[str | None] = "classifier.3"

    def trunk(self, cut: str) -> nn.Module:
        """Features [N, 40, H/8, W/8], or [N, 112, H/16, W/16] if the cut is at stage5."""
        network = _network(len(_BLOCKS), 1)
        return chain(features=network.features[: 1 + _BLOCKS_BEFORE[cut]])

    def expert(self, cut: str, config: ModelConfig) -> TorchvisionExpert:
        """The stages from the cut on, global average pooling and the hidden layer."""
        before = _BLOCKS_BEFORE[cut]
        network = _network(before, REDUCED_SHARE if config.reduced_width else 1)
        body = chain(
            features=network.features[1 + before :],
            avgpool=network.avgpool,
            flatten=nn.Flatten(),
            classifier=network.classifier[:2],  # linear and hard swish
        )
        return TorchvisionExpert(body, network.classifier[0].out_features, config)


def _network(full_blocks: int, share: float) -> MobileNetV3:
    """The whole network; after the first `full_blocks` blocks widths are multiplied by `share`."""
    narrow = partial(InvertedResidualConfig.adjust_channels, width_mult=share)
    settings, inputs = [], _STEM_WIDTH
    for number, block in enumerate(_BLOCKS):
        expanded, outputs = block.expanded, block.outputs
        if number >= full_blocks:
            expanded, outputs = narrow(expanded), narrow(outputs)
        settings.append(
            InvertedResidualConfig(
                inputs,
                block.kernel,
                expanded,
                outputs,
                block.squeeze,
                block.activation,
                block.stride,
                dilation=1,
                width_mult=1,
            )
        )
        inputs = outputs
    return MobileNetV3(settings, last_channel=narrow(_LAST_WIDTH))
