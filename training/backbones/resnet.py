"""ResNet and ResNeXt for larger images, out of torchvision's blocks, cut in two.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Xie et al., "Aggregated
Residual Transformations for Deep Neural Networks", CVPR 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from training.backbones.expert import REDUCED_SHARE, TorchvisionExpert, chain
from training.config import ModelConfig

_LAYER3, _LAYER4 = 256, 512
"""Planes: output channels of a basic block, a quarter of a bottleneck's."""


@dataclass(frozen=True)
class ResNetFamily:
    """RIDE's cut: stem, layer1 and layer2 are shared, each expert has layer3 and layer4.

    Reduced widths are 192 and 384 planes. A bottleneck has int(planes * width_per_group / 64) *
    groups inner channels, so that in a reduced ResNeXt-50 each of the 32 groups gets narrower.
    """

    cuts: ClassVar[tuple[str, ...]] = ("layer3", "layer4")
    published_classifier: ClassVar[str | None] = "fc"
    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64

    def trunk(self, cut: str) -> nn.Module:
        """Features [N, 128 * expansion, H/8, W/8], or half as large after layer3."""
        network = ResNet(
            self.block,
            list(self.depths),
            groups=self.groups,
            width_per_group=self.width_per_group,
        )
        names = [name for name, _ in network.named_children()]
        return chain(**{name: network.get_submodule(name) for name in names[: names.index(cut)]})

    def expert(self, cut: str, config: ModelConfig) -> TorchvisionExpert:
        """The stages from the cut on and global average pooling."""
        share = REDUCED_SHARE if config.reduced_width else 1
        planes3, planes4 = int(_LAYER3 * share), int(_LAYER4 * share)
        pool = {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        if cut == "layer4":
            body = chain(layer4=self._layer(_LAYER3, planes4, self.depths[3]), **pool)
        else:
            body = chain(
                layer3=self._layer(_LAYER3 // 2, planes3, self.depths[2]),
                layer4=self._layer(planes3, planes4, self.depths[3]),
                **pool,
            )
        return TorchvisionExpert(body, planes4 * self.block.expansion, config)

    def _layer(self, planes_before: int, planes: int, depth: int) -> nn.Sequential:
        """Blocks in a row, the first with stride 2 and a projection for its shortcut."""
        inputs, outputs = planes_before * self.block.expansion, planes * self.block.expansion
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )
        grouping = {"groups": self.groups, "base_width": self.width_per_group}
        first = self.block(inputs, planes, 2, shortcut, **grouping)
        rest = [self.block(outputs, planes, **grouping) for _ in range(depth - 1)]
        layer = nn.Sequential(first, *rest)
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):  # as torchvision's ResNet does it
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return layer
