"""Shortcuts in a form that ONNX Runtime fuses.

The shortcut of the CIFAR ResNet, every second pixel padded with empty channels, becomes Slice and
Pad, for which ONNX Runtime undoes its layout of channels in blocks (fp32) or of channels last
(int8), and on its account at every later block too. A 1x1 convolution with a stride of two and an
identity for weights gives the same numbers and leaves the layout alone.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from training.backbones.resnet32 import PaddedShortcut


def with_convolutions(module: nn.Module) -> nn.Module:
    """A copy of a module in which every padded shortcut is a convolution; the same outputs."""
    changed = copy.deepcopy(module)
    for block in list(changed.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, PaddedShortcut):
                setattr(block, name, _as_convolution(child))
    return changed.eval()


def _as_convolution(shortcut: PaddedShortcut) -> nn.Conv2d:
    first, inner = shortcut.padding[-2], shortcut.in_channels
    convolution = nn.Conv2d(inner, inner + sum(shortcut.padding), 1, stride=2, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[first : first + inner, :, 0, 0] = torch.eye(inner)
    return convolution
