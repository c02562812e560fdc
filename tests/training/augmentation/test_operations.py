"""Each operation against torchvision's of the same name, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode

from training.augmentation.operations import DIRECTED, GREY, Operation, apply_operations

NEAREST = InterpolationMode.NEAREST
TWO_LEVELS = 2 / 255  # bytes are rounded down at two places
UNEVEN = 0.997 / 30
"""A step in strength after which no place is halfway between two pixels or two image, where the
last bit decides."""


def noise(count: int, seed: int = 0) -> Tensor:
    """Every level of brightness occurs, and no image is like another."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return levels.float() / 255


def photograph(seed: int = 0) -> Tensor:
    """One smooth image of middling contrast, with levels only in between, [1, 3, 32, 32]."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.2
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    return (smooth * 255).round() / 255


def torchvision_result(image: Tensor, operation: Operation, strength: float) -> Tensor:
    """What torchvision makes of an image, be it of fractions or of bytes."""
    white = 1.0 if image.is_floating_point() else 255.0
    fill = [GREY * white]
    still = {"angle": 0.0, "scale": 1.0, "interpolation": NEAREST, "fill": fill}
    slant = math.degrees(math.atan(0.3 * strength))
    pixels = int(150 / 331 * image.shape[-1] * strength)
    upright = {**still, "shear": [0.0, 0.0]}
    corner = {**still, "translate": [0, 0], "center": [0, 0]}
    results: dict[Operation, Callable[[], Tensor]] = {
        Operation.IDENTITY: lambda: image,
        Operation.SHEAR_X: lambda: TF.affine(image, shear=[slant, 0.0], **corner),
        Operation.SHEAR_Y: lambda: TF.affine(image, shear=[0.0, slant], **corner),
        Operation.TRANSLATE_X: lambda: TF.affine(image, translate=[pixels, 0], **upright),
        Operation.TRANSLATE_Y: lambda: TF.affine(image, translate=[0, pixels], **upright),
        Operation.ROTATE: lambda: TF.rotate(image, 30.0 * strength, NEAREST, fill=fill),
        Operation.BRIGHTNESS: lambda: TF.adjust_brightness(image, 1 + 0.9 * strength),
        Operation.COLOR: lambda: TF.adjust_saturation(image, 1 + 0.9 * strength),
        Operation.CONTRAST: lambda: TF.adjust_contrast(image, 1 + 0.9 * strength),
        Operation.SHARPNESS: lambda: TF.adjust_sharpness(image, 1 + 0.9 * strength),
        Operation.POSTERIZE: lambda: TF.posterize(image, 8 - round(4 * strength)),
        Operation.SOLARIZE: lambda: TF.solarize(image, white * (1 - strength)),
        Operation.AUTOCONTRAST: lambda: TF.autocontrast(image),
        Operation.EQUALIZE: lambda: TF.equalize(image),
        Operation.INVERT: lambda: TF.invert(image),
    }
    return results[operation]()


def apply_one(image: Tensor, operation: Operation, strength: float) -> Tensor:
    return apply_operations(image, torch.tensor([int(operation)]), torch.tensor([strength]))


@pytest.mark.parametrize("operation", list(Operation))
@settings(max_examples=12)
@given(strength=st.integers(-30, 30), seed=st.integers(0, 5))
def test_an_operation_does_what_torchvision_does(
    operation: Operation, strength: int, seed: int
) -> None:
    share = (strength if operation in DIRECTED else abs(strength)) * UNEVEN
    for image in (noise(1, seed), photograph(seed)):
        changed = apply_one(image, operation, share)
        exact = torchvision_result(image, operation, share)
        torch.testing.assert_close(changed, exact, atol=1e-5, rtol=0)
        rounded = torchvision_result((image * 255).round().to(torch.uint8), operation, share)
        torch.testing.assert_close(changed, rounded / 255, atol=TWO_LEVELS, rtol=0)


@pytest.mark.parametrize("operation", sorted(DIRECTED))
def test_strength_nought_of_a_directed_operation_is_no_change(operation: Operation) -> None:
    image = noise(1)
    torch.testing.assert_close(apply_one(image, operation, 0.0), image, atol=1e-6, rtol=0)


def test_every_image_gets_its_own_operation_at_its_own_strength() -> None:
    operations = torch.arange(len(Operation)).repeat(3)
    strengths = torch.linspace(0.1, 1, len(operations))
    images = noise(len(operations))
    changed = apply_operations(images, operations, strengths)
    for row, operation in enumerate(operations.tolist()):
        alone = apply_one(images[row : row + 1], Operation(operation), float(strengths[row]))
        torch.testing.assert_close(changed[row : row + 1], alone, atol=1e-6, rtol=0)


def test_images_without_an_operation_keep_every_bit_and_the_input_stays() -> None:
    images = noise(4)
    before = images.clone()
    operations = torch.tensor([0, int(Operation.INVERT), 0, int(Operation.EQUALIZE)])
    changed = apply_operations(images, operations, torch.zeros(4))
    assert torch.equal(images, before)
    assert torch.equal(changed[[0, 2]], before[[0, 2]])
    assert torch.equal(changed[1], 1 - before[1])


def test_values_stay_in_the_unit_range_for_flat_black_and_white_images_too() -> None:
    images = torch.cat([noise(1), torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)])
    for operation in Operation:
        for strength in (0.0, 0.3, 1.0, *([-1.0] if operation in DIRECTED else [])):
            changed = apply_operations(
                images, torch.full((3,), int(operation)), torch.full((3,), strength)
            )
            assert changed.isfinite().all()
            assert changed.min() >= 0
            assert changed.max() <= 1
