"""Swin Transformer, out of torchvision's modules, cut in two.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models.swin_transformer import PatchMerging, SwinTransformer

from training.backbones.expert import REDUCED_SHARE, TorchvisionExpert, chain
from training.config import ModelConfig

_WIDTH = 96
_HEADS = (3, 6, 12, 24)
_WINDOW = 7
_STAGES_BEFORE = {"stage3": 2, "stage4": 3}


@dataclass(frozen=True)
class SwinFamily:
    """Each expert begins with the patch merging in front of its first stage.

    It is there that a reduced expert narrows: its stages have 3/4 of the channels (288, 576), in
    as many heads of 24 channels instead of 32. There is no stochastic depth, since it would draw
    from the global generator.
    """

    cuts: ClassVar[tuple[str, ...]] = ("stage3", "stage4")
    published_classifier: ClassVar[str | None] = "head"
    depths: tuple[int, int, int, int]

    def trunk(self, cut: str) -> nn.Module:
        """Features [N, H/8, W/8, 192], or [N, H/16, W/16, 384] if the cut is at stage4."""
        return chain(features=self._network(_WIDTH, _STAGES_BEFORE[cut]).features)

    def expert(self, cut: str, config: ModelConfig) -> TorchvisionExpert:
        """The stages from the cut on, the final layer norm and global average pooling."""
        width = int(_WIDTH * REDUCED_SHARE) if config.reduced_width else _WIDTH
        network = self._network(width, len(_HEADS))
        before = _STAGES_BEFORE[cut]
        # A patch embedding and the stages alternate with the merging between them.
        features = network.features[2 * before :]
        if config.reduced_width:
            features[0] = _narrowing(_WIDTH * 2 ** (before - 1), width * 2**before)
        body = chain(
            features=features,
            norm=network.norm,
            permute=network.permute,
            avgpool=network.avgpool,
            flatten=network.flatten,
        )
        return TorchvisionExpert(body, width * 2 ** (len(_HEADS) - 1), config)

    def _network(self, width: int, stages: int) -> SwinTransformer:
        return SwinTransformer(
            patch_size=[4, 4],
            embed_dim=width,
            depths=list(self.depths[:stages]),
            num_heads=list(_HEADS[:stages]),
            window_size=[_WINDOW, _WINDOW],
            stochastic_depth_prob=0.0,
        )


def _narrowing(inputs: int, outputs: int) -> PatchMerging:
    """Merges 2 by 2 patches of `inputs` channels into one of `outputs`, instead of 2 * inputs."""
    merging = PatchMerging(inputs)
    merging.reduction = nn.Linear(4 * inputs, outputs, bias=False)
    nn.init.trunc_normal_(merging.reduction.weight, std=0.02)  # as torchvision's Swin does it
    return merging
