"""Mixup: convex combinations of pairs of images (Zhang et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.augmentation.seed import draw_seed


@dataclass(frozen=True)
class Mixed:
    """Images of which each is `share` of its own and 1 - `share` of another one of the batch.

    The loss to take is share * loss(labels) + (1 - share) * loss(partner_labels).

    Shapes: images [N, 3, H, W]; labels and partner_labels int64 [N].
    """

    images: Tensor
    labels: Tensor
    partner_labels: Tensor
    share: float


def mixup(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> Mixed:
    """Mix every image with a random one of the batch, all in the same share.

    The share is drawn from Beta(alpha, alpha), once a batch, as in the authors' code.

    Args: images fp32 [N, 3, H, W]; labels int64 [N]; alpha above 0; a CPU generator, so that the
    draws are the same on every device.
    """
    share = float(np.random.default_rng(draw_seed(generator)).beta(alpha, alpha))
    partners = torch.randperm(len(images), generator=generator)
    return mix(images, labels, partners.to(images.device, non_blocking=True), share)


def mix(images: Tensor, labels: Tensor, partners: Tensor, share: float) -> Mixed:
    """Mix image i with image partners[i]; partners int64 [N] on the images' device."""
    mixed = share * images + (1 - share) * images[partners]
    return Mixed(mixed, labels, labels[partners], share)
