"""Which networks there are, and how one becomes a trunk and experts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from training.backbones.convnext import ConvNeXtFamily
from training.backbones.expert import Architecture, Expert
from training.backbones.mobilenet import MobileNetV3Family
from training.backbones.resnet import ResNetFamily
from training.backbones.resnet32 import ResNet32Family
from training.backbones.swin import SwinFamily
from training.choices import Family
from training.config import ModelConfig
from training.errors import ConfigError

FAMILIES: dict[Family, Architecture] = {
    Family.RESNET32: ResNet32Family(),
    Family.RESNET32X4: ResNet32Family(times=4),
    Family.RESNET10: ResNetFamily(BasicBlock, (1, 1, 1, 1)),
    Family.RESNET50: ResNetFamily(Bottleneck, (3, 4, 6, 3)),
    Family.RESNET101: ResNetFamily(Bottleneck, (3, 4, 23, 3)),
    Family.RESNET152: ResNetFamily(Bottleneck, (3, 8, 36, 3)),
    Family.RESNEXT50: ResNetFamily(Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
    Family.SWIN_T: SwinFamily((2, 2, 6, 2)),
    Family.SWIN_S: SwinFamily((2, 2, 18, 2)),
    Family.CONVNEXT_T: ConvNeXtFamily((3, 3, 9, 3)),
    Family.MOBILENET_V3: MobileNetV3Family(),
}


@dataclass(frozen=True)
class Parts:
    """A network in parts: one trunk, and experts that each continue from its features."""

    trunk: nn.Module
    experts: tuple[Expert, ...]


def build_parts(config: ModelConfig) -> Parts:
    """The parts of a freshly initialised network.

    The trunk maps a normalised image [N, 3, H, W] to features; their layout is the family's own
    business ([N, C, H, W], or [N, H, W, C] for Swin).

    Raises:
        ConfigError: if the family can't be cut at `config.cut`.
    """
    architecture, cut = FAMILIES[config.backbone], require_cut(config)
    trunk = architecture.trunk(cut)
    return Parts(trunk, tuple(architecture.expert(cut, config) for _ in range(config.num_experts)))


def require_cut(config: ModelConfig) -> str:
    """Where the family is cut; its first cut unless the configuration names another.

    Raises:
        ConfigError: if the family can't be cut there.
    """
    cuts = FAMILIES[config.backbone].cuts
    cut = cuts[0] if config.cut is None else config.cut
    if cut not in cuts:
        raise ConfigError(
            f"{config.backbone} can't be cut at {cut!r}; its stages are: {', '.join(cuts)}"
        )
    return cut
