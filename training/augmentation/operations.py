"""The operations of AutoAugment and RandAugment, for a batch in which every image has its own.

What an operation of some strength does is what torchvision's transforms of the same name do
(Cubuk et al. 2019, table 6, gives the ranges). They take one magnitude for all images; here each
image has a magnitude of its own, so that a batch takes one pass an operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from functools import partial

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from training.augmentation.geometry import warp

GREY = 128 / 255
"""What fills the place of pixels from outside: near the mean, which Cubuk et al. use."""

MAX_SHEAR = 0.3
MAX_TRANSLATION = 150 / 331  # of the width
MAX_TURN_DEGREES = 30.0
MAX_ENHANCEMENT = 0.9
MAX_LOST_BITS = 4

_Change = Callable[[Tensor, Tensor], Tensor]
"""What an operation makes of images [N, 3, H, H] with strengths [N] on the CPU."""


class Operation(IntEnum):
    """What is done to an image. Those with a direction take a strength in [-1, 1], else [0, 1]."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13
    INVERT = 14


DIRECTED = frozenset(range(Operation.SHEAR_X, Operation.SHARPNESS + 1))
"""The operations whose strength has a sign."""


def apply_operations(images: Tensor, operations: Tensor, strengths: Tensor) -> Tensor:
    """Change each image by its own operation, at its own strength.

    Args: images fp32 [N, 3, H, H] in [0, 1]; operations int64 [N] (values of `Operation`) and
    strengths fp32 [N], both on the CPU, so that nothing waits for the images' device.
    Returns the same shape and range.
    """
    # Rows are copied out and back several times faster where an image's planes lie together.
    changed = images.clone(memory_format=torch.contiguous_format)
    for operation, change in _CHANGES.items():
        chosen = torch.nonzero(operations == operation).flatten()
        if len(chosen):
            rows = chosen.to(images.device, non_blocking=True)
            changed.index_copy_(0, rows, change(changed[rows], strengths[chosen]))
    return changed


def _shear(images: Tensor, strengths: Tensor, across: int) -> Tensor:
    """Shear along one axis (0 is x, 1 is y); the upper left corner stays where it is."""
    maps = torch.eye(2, 3).repeat(len(images), 1, 1)
    maps[:, across, 1 - across] = maps[:, across, 2] = strengths * MAX_SHEAR
    return _warp_on_grey(images, maps)


def _translate(images: Tensor, strengths: Tensor, along: int) -> Tensor:
    """Move by whole pixels along one axis (0 is x, 1 is y)."""
    width = images.shape[-1]
    maps = torch.eye(2, 3).repeat(len(images), 1, 1)
    maps[:, along, 2] = -torch.trunc(strengths * MAX_TRANSLATION * width) * 2 / width
    return _warp_on_grey(images, maps)


def _rotate(images: Tensor, strengths: Tensor) -> Tensor:
    """Turn anticlockwise about the centre."""
    angle = strengths * math.radians(MAX_TURN_DEGREES)
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0], maps[:, 0, 1] = torch.cos(angle), -torch.sin(angle)
    maps[:, 1, 0], maps[:, 1, 1] = torch.sin(angle), torch.cos(angle)
    return _warp_on_grey(images, maps)


def _warp_on_grey(images: Tensor, maps: Tensor) -> Tensor:
    return warp(images - GREY, maps, images.shape[-1], "nearest") + GREY


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """From black (factor 0) to the image (1) and beyond; factors [N] on the CPU."""
    return _extrapolate(torch.zeros_like(images), images, factors)


def adjust_color(images: Tensor, factors: Tensor) -> Tensor:
    """From shades of grey (factor 0) to the image (1) and beyond; factors [N] on the CPU."""
    return _extrapolate(TF.rgb_to_grayscale(images), images, factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """From one mean grey (factor 0) to the image (1) and beyond; factors [N] on the CPU."""
    mean = TF.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return _extrapolate(mean, images, factors)


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """From a blurred image (factor 0) to the image (1) and beyond; factors [N] on the CPU.

    Pillow's blur weighs a pixel 5/13 and each of its neighbours 1/13, and spares the border.
    """
    blurred = images.clone()
    inner = blurred[:, :, 1:-1, 1:-1]
    inner.mul_(4 / 13).add_(F.avg_pool2d(images, 3, stride=1), alpha=9 / 13)
    return _extrapolate(blurred, images, factors)


def _extrapolate(plain: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(plain, images, _for_each_image(factors, images)).clamp_(0, 1)


def _enhance(adjust: Callable[[Tensor, Tensor], Tensor]) -> _Change:
    return lambda images, strengths: adjust(images, 1 + strengths * MAX_ENHANCEMENT)


def _posterize(images: Tensor, strengths: Tensor) -> Tensor:
    """Keep from 8 to 4 of the 8 bits."""
    levels = _for_each_image(2.0 ** (8 - torch.round(strengths * MAX_LOST_BITS)), images)
    return torch.minimum(torch.floor(images * levels), levels - 1) / levels


def _solarize(images: Tensor, strengths: Tensor) -> Tensor:
    """Invert what is as bright as a threshold, which is 1 for the weakest and 0 at the most."""
    return torch.where(images >= _for_each_image(1 - strengths, images), 1 - images, images)


def _at_any_strength(change: Callable[[Tensor], Tensor]) -> _Change:
    return lambda images, _: change(images)


def _for_each_image(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1).to(images.device, non_blocking=True)


_CHANGES: dict[Operation, _Change] = {
    Operation.SHEAR_X: partial(_shear, across=0),
    Operation.SHEAR_Y: partial(_shear, across=1),
    Operation.TRANSLATE_X: partial(_translate, along=0),
    Operation.TRANSLATE_Y: partial(_translate, along=1),
    Operation.ROTATE: _rotate,
    Operation.BRIGHTNESS: _enhance(adjust_brightness),
    Operation.COLOR: _enhance(adjust_color),
    Operation.CONTRAST: _enhance(adjust_contrast),
    Operation.SHARPNESS: _enhance(adjust_sharpness),
    Operation.POSTERIZE: _posterize,
    Operation.SOLARIZE: _solarize,
    Operation.AUTOCONTRAST: _at_any_strength(TF.autocontrast),
    Operation.EQUALIZE: _at_any_strength(TF.equalize),
    Operation.INVERT: _at_any_strength(TF.invert),
}
