"""ConvNeXt, out of torchvision's modules, cut in two.

Liu et al., "A ConvNet for the 2020s", CVPR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from training.backbones.expert import REDUCED_SHARE, TorchvisionExpert, chain
from training.config import ModelConfig

_WIDTHS = (96, 192, 384, 768)
_STAGES_BEFORE = {"stage3": 2, "stage4": 3}


@dataclass(frozen=True)
class ConvNeXtFamily:
    """Each expert begins with the downsampling in front of its first stage.

    It is there that a reduced expert narrows: its stages have 3/4 of the channels (288, 576).
    There is no stochastic depth, since it would draw from the global generator.
    """

    cuts: ClassVar[tuple[str, ...]] = ("stage3", "stage4")
    published_classifier: ClassVar[str | None] = "classifier.2"
    depths: tuple[int, int, int, int]

    def trunk(self, cut: str) -> nn.Module:
        """Features [N, 192, H/8, W/8], or [N, 384, H/16, W/16] if the cut is at stage4."""
        return chain(features=self._network(_WIDTHS[: _STAGES_BEFORE[cut]]).features)

    def expert(self, cut: str, config: ModelConfig) -> TorchvisionExpert:
        """The stages from the cut on, global average pooling and the final layer norm."""
        share = REDUCED_SHARE if config.reduced_width else 1
        before = _STAGES_BEFORE[cut]
        widths = (*_WIDTHS[:before], *(int(width * share) for width in _WIDTHS[before:]))
        network = self._network(widths)
        body = chain(
            # A stem and the stages alternate with what downsamples between them.
            features=network.features[2 * before :],
            avgpool=network.avgpool,
            classifier=network.classifier[:2],  # layer norm and flatten
        )
        return TorchvisionExpert(body, widths[-1], config)

    def _network(self, widths: tuple[int, ...]) -> ConvNeXt:
        following = (*widths[1:], None)
        stages = zip(widths, following, self.depths[: len(widths)], strict=True)
        return ConvNeXt([CNBlockConfig(*stage) for stage in stages])
