"""Which operations AutoAugment and RandAugment draw for each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from training.augmentation.operations import DIRECTED, Operation, apply_operations

_Part = tuple[Operation, float, int]
"""Operation, its probability, its magnitude from 0 to 9 (0 for those that know no degrees)."""

CIFAR10_POLICY: tuple[tuple[_Part, _Part], ...] = (
    ((Operation.INVERT, 0.1, 0), (Operation.CONTRAST, 0.2, 6)),
    ((Operation.ROTATE, 0.7, 2), (Operation.TRANSLATE_X, 0.3, 9)),
    ((Operation.SHARPNESS, 0.8, 1), (Operation.SHARPNESS, 0.9, 3)),
    ((Operation.SHEAR_Y, 0.5, 8), (Operation.TRANSLATE_Y, 0.7, 9)),
    ((Operation.AUTOCONTRAST, 0.5, 0), (Operation.EQUALIZE, 0.9, 0)),
    ((Operation.SHEAR_Y, 0.2, 7), (Operation.POSTERIZE, 0.3, 7)),
    ((Operation.COLOR, 0.4, 3), (Operation.BRIGHTNESS, 0.6, 7)),
    ((Operation.SHARPNESS, 0.3, 9), (Operation.BRIGHTNESS, 0.7, 9)),
    ((Operation.EQUALIZE, 0.6, 0), (Operation.EQUALIZE, 0.5, 0)),
    ((Operation.CONTRAST, 0.6, 7), (Operation.SHARPNESS, 0.6, 5)),
    ((Operation.COLOR, 0.7, 7), (Operation.TRANSLATE_X, 0.5, 8)),
    ((Operation.EQUALIZE, 0.3, 0), (Operation.AUTOCONTRAST, 0.4, 0)),
    ((Operation.TRANSLATE_Y, 0.4, 3), (Operation.SHARPNESS, 0.2, 6)),
    ((Operation.BRIGHTNESS, 0.9, 6), (Operation.COLOR, 0.2, 8)),
    ((Operation.SOLARIZE, 0.5, 2), (Operation.INVERT, 0.0, 0)),
    ((Operation.EQUALIZE, 0.2, 0), (Operation.AUTOCONTRAST, 0.6, 0)),
    ((Operation.EQUALIZE, 0.2, 0), (Operation.EQUALIZE, 0.6, 0)),
    ((Operation.COLOR, 0.9, 9), (Operation.EQUALIZE, 0.6, 0)),
    ((Operation.AUTOCONTRAST, 0.8, 0), (Operation.SOLARIZE, 0.2, 8)),
    ((Operation.BRIGHTNESS, 0.1, 3), (Operation.COLOR, 0.7, 0)),
    ((Operation.SOLARIZE, 0.4, 5), (Operation.AUTOCONTRAST, 0.9, 0)),
    ((Operation.TRANSLATE_Y, 0.9, 9), (Operation.TRANSLATE_Y, 0.7, 9)),
    ((Operation.AUTOCONTRAST, 0.9, 0), (Operation.SOLARIZE, 0.8, 3)),
    ((Operation.EQUALIZE, 0.8, 0), (Operation.INVERT, 0.1, 0)),
    ((Operation.TRANSLATE_Y, 0.7, 9), (Operation.AUTOCONTRAST, 0.9, 0)),
)
"""The 25 sub-policies for CIFAR-10. Cubuk et al. 2019, table 7."""

RANDAUGMENT_OPERATIONS = tuple(op for op in Operation if op is not Operation.INVERT)
"""Cubuk et al. 2020, section 3: all of AutoAugment's but inversion, and the identity."""

RANDAUGMENT_STEPS = 2
RANDAUGMENT_MAGNITUDE = 9  # on a scale to 30

_OPERATIONS = torch.tensor([[part[0] for part in pair] for pair in CIFAR10_POLICY])
_PROBABILITIES = torch.tensor([[part[1] for part in pair] for pair in CIFAR10_POLICY])
_STRENGTHS = torch.tensor([[part[2] / 9 for part in pair] for pair in CIFAR10_POLICY])
_DIRECTED = torch.tensor([operation in DIRECTED for operation in Operation])


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change each image by one of CIFAR-10's 25 sub-policies, fp32 [N, 3, H, H] in [0, 1].

    Both operations of a sub-policy happen with their own probability. Cubuk et al. 2019.
    """
    pairs = torch.randint(len(CIFAR10_POLICY), (len(images),), generator=generator)
    happens = torch.rand(len(images), 2, generator=generator) < _PROBABILITIES[pairs]
    operations = torch.where(happens, _OPERATIONS[pairs], Operation.IDENTITY)
    return _apply(images, operations, _STRENGTHS[pairs], generator)


def randaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change each image by 2 random operations of magnitude 9, fp32 [N, 3, H, H] in [0, 1].

    Cubuk et al. 2020.
    """
    drawn = torch.randint(
        len(RANDAUGMENT_OPERATIONS), (len(images), RANDAUGMENT_STEPS), generator=generator
    )
    operations = torch.tensor(RANDAUGMENT_OPERATIONS)[drawn]
    strengths = torch.full(operations.shape, RANDAUGMENT_MAGNITUDE / 30)
    return _apply(images, operations, strengths, generator)


def _apply(
    images: Tensor, operations: Tensor, strengths: Tensor, generator: torch.Generator
) -> Tensor:
    """Apply the columns of operations [N, steps] in turn; half of the directed turn about."""
    turned = (torch.rand(operations.shape, generator=generator) < 0.5) & _DIRECTED[operations]
    signed = torch.where(turned, -strengths, strengths)
    for step in range(operations.shape[1]):
        images = apply_operations(images, operations[:, step], signed[:, step])
    return images
