"""Augmentation of decoded small images (CIFAR), a whole batch at a time on any device.

Every draw is made on the CPU and nothing is read back, so a GPU never waits for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.augmentation.cutout import cutout
from training.augmentation.geometry import crop_flip, crop_flip_rotate, to_unit_range
from training.augmentation.operations import adjust_brightness, adjust_color, adjust_contrast
from training.augmentation.policies import autoaugment, randaugment
from training.choices import Policy
from training.config import AugmentationConfig


def augment_batch(
    images: Tensor, config: AugmentationConfig, generator: torch.Generator, size: int
) -> Tensor:
    """Crop, flip and what else the policy says; then Cutout.

    Images are resampled to `size` together with the crop, without antialiasing. Everything after
    that works on images of that size, and Cutout's square shrinks along with them.

    Args: images uint8 [N, H, H, 3]; a CPU generator, so that the draws are the same on every
    device. Returns fp32 [N, 3, size, size] in [0, 1] on the images' device, channels last in
    memory.
    """
    changed = _crop(to_unit_range(images), config.policy, generator, size)
    if config.color_jitter:
        changed = _jitter_colors(changed, config.color_jitter, generator)
    if config.policy is Policy.AUTOAUGMENT:
        changed = autoaugment(changed, generator)
    elif config.policy is Policy.RANDAUGMENT:
        changed = randaugment(changed, generator)
    if config.cutout:
        changed = cutout(changed, round(config.cutout * size / images.shape[1]), generator)
    return changed.contiguous(memory_format=torch.channels_last)


def _crop(images: Tensor, policy: Policy, generator: torch.Generator, size: int) -> Tensor:
    if policy is Policy.NONE:
        return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    if policy is Policy.STANDARD:
        return crop_flip_rotate(images, generator, size)
    return crop_flip(images, generator, size)


def _jitter_colors(images: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of each image by a factor in 1 +- jitter.

    The order of the three is drawn once a batch.
    """
    adjustments = (adjust_brightness, adjust_contrast, adjust_color)
    for index in torch.randperm(len(adjustments), generator=generator).tolist():
        factors = 1 + (torch.rand(len(images), generator=generator) * 2 - 1) * jitter
        images = adjustments[index](images, factors.clamp(min=0))
    return images
