"""CIFAR's training augmentation and normalisation, a whole batch at a time.

Crop with padding 4, horizontal flip and rotation within 15 degrees (the published RIDE recipe)
are each an affine map, so one resampling does all three, on whatever device the images are.
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


def augment(images: Tensor, generator: torch.Generator, size: int | None = None) -> Tensor:
    """Shift, flip and rotate each image at random; what comes from outside is black.

    Args: images fp32 [N, 3, H, W] in [0, 1]; a CPU generator, so that the draws are the same on
    every device. Returns the same shape, or `size` pixels in height and width.
    """
    count = len(images)
    angle = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(MAX_ROTATION_DEGREES)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    shifts = torch.randint(-CROP_PADDING, CROP_PADDING + 1, (2, count), generator=generator)
    return resample(images, angle, flip, shifts, size)


def resample(
    images: Tensor, angle: Tensor, flip: Tensor, shifts: Tensor, size: int | None = None
) -> Tensor:
    """Shift each image, turn it about its centre, and mirror it where flip is -1 (not 1).

    Args: images [N, 3, H, W]; angle in radians [N]; flip [N]; shifts in pixels, left and up,
    [2, N]; the side of the result in pixels. Returns the same shape unless a size is given; what
    comes from outside is black.
    """
    count, _, height, width = images.shape
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 1] = torch.cos(angle) * flip, -torch.sin(angle)
    maps[:, 1, 0], maps[:, 1, 1] = torch.sin(angle) * flip, torch.cos(angle)
    maps[:, 0, 2], maps[:, 1, 2] = shifts[0] * 2 / width, shifts[1] * 2 / height
    grid = F.affine_grid(
        maps.to(images.device), [count, 3, size or height, size or width], align_corners=False
    )
    augmented = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return augmented.contiguous(memory_format=torch.channels_last)
