"""Crop, flip and rotation of a whole batch of small square images.

Each is an affine map, so one resampling does all of them, and the change of size that
progressive learning wants, on whatever device the images are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_PADDING = 4
MAX_ROTATION_DEGREES = 15.0


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> fp32 [N, 3, H, W] in [0, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255.0


def crop_flip_rotate(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Crop with padding 4, flip and rotate within 15 degrees: the published RIDE recipe.

    Args: images fp32 [N, 3, H, H] in [0, 1]; a CPU generator, so that the draws are the same on
    every device. Returns [N, 3, size, size]; what comes from outside is black.
    """
    count = len(images)
    angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(MAX_ROTATION_DEGREES)
    flip, shifts = _draw_crop_and_flip(count, generator)
    return resample(images, angle, flip, shifts, size)


def crop_flip(images: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Crop with padding 4 and flip, as `crop_flip_rotate` without the rotation.

    Whole pixels move without any change unless the size changes.
    """
    flip, shifts = _draw_crop_and_flip(len(images), generator)
    mode = "nearest" if size == images.shape[-1] else "bilinear"
    return resample(images, torch.zeros(len(images)), flip, shifts, size, mode)


def _draw_crop_and_flip(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    shifts = torch.randint(-CROP_PADDING, CROP_PADDING + 1, (2, count), generator=generator)
    return flip, shifts


def resample(
    images: Tensor, angle: Tensor, flip: Tensor, shifts: Tensor, size: int, mode: str = "bilinear"
) -> Tensor:
    """Shift each image, turn it about its centre, and mirror it where flip is -1 (not 1).

    Args: images [N, 3, H, H]; angle in radians [N]; flip [N]; shifts in pixels, left and up,
    [2, N]; the size of the outcome. Returns [N, 3, size, size], channels last in memory; what
    comes from outside is black. There is no antialiasing, so `size` should not be far below H.
    """
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0], maps[:, 0, 1] = torch.cos(angle) * flip, -torch.sin(angle)
    maps[:, 1, 0], maps[:, 1, 1] = torch.sin(angle) * flip, torch.cos(angle)
    maps[:, :, 2] = shifts.T * 2 / images.shape[-1]
    resampled = warp(images, maps, size, mode)
    return resampled.contiguous(memory_format=torch.channels_last)


def warp(images: Tensor, maps: Tensor, size: int, mode: str) -> Tensor:
    """Resample by one affine map an image; what comes from outside is 0.

    Args: images [N, C, H, H]; maps [N, 2, 3] on the CPU, from places in the outcome to places in
    the image, where the image spans [-1, 1]; mode is `bilinear` or `nearest`.
    Returns [N, C, size, size].
    """
    shape = [len(images), images.shape[1], size, size]
    there = maps.to(images.device, images.dtype, non_blocking=True)
    grid = F.affine_grid(there, shape, align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
