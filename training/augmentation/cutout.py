"""Cutout: one square of each image is blanked (DeVries and Taylor 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from training.augmentation.operations import GREY


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank a square in each image; its centre may be any pixel, so part of it may be outside.

    It becomes mid-grey: DeVries and Taylor blank normalised images with 0, which is the mean.

    Args: images fp32 [N, 3, H, W] in [0, 1] or uint8; the side of the square in pixels; a CPU
    generator. Returns the same shape and type.
    """
    height, width = images.shape[-2:]
    rows = _covered(len(images), height, side, generator).to(images.device, non_blocking=True)
    columns = _covered(len(images), width, side, generator).to(images.device, non_blocking=True)
    square = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(square, GREY if images.is_floating_point() else round(GREY * 255))


def _covered(count: int, length: int, side: int, generator: torch.Generator) -> Tensor:
    """Which of `length` rows (or columns) the square of each image covers, bool [count, length]."""
    first = torch.randint(length, (count, 1), generator=generator) - side // 2
    place = torch.arange(length)
    return (place >= first) & (place < first + side)
