"""Augmentation: what each of its parts does, and that draws are reproducible."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.augmentation.geometry import (
    CROP_PADDING,
    MAX_ROTATION_DEGREES,
    crop_flip_rotate,
    resample,
    to_unit_range,
)


def noise(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Angle, flip and shifts that do nothing."""
    return torch.zeros(count), torch.ones(count), torch.zeros(2, count)


def test_nil_changes_nothing() -> None:
    images = noise(4)
    torch.testing.assert_close(resample(images, *still(4), 32), images, atol=1e-4, rtol=0)


def test_a_flip_mirrors_left_and_right_of_the_flipped_images_only() -> None:
    images = noise(2)
    angle, _, shifts = still(2)
    mirrored = resample(images, angle, torch.tensor([-1.0, 1.0]), shifts, 32)
    torch.testing.assert_close(mirrored[0], images[0].flip(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(mirrored[1], images[1], atol=1e-4, rtol=0)


def test_a_shift_moves_whole_pixels_and_leaves_black() -> None:
    images = noise(1)
    angle, flip, _ = still(1)
    moved = resample(images, angle, flip, torch.tensor([[3], [-2]]), 32)
    torch.testing.assert_close(moved[:, :, 2:, :-3], images[:, :, :-2, 3:], atol=1e-4, rtol=0)
    assert moved[:, :, :2].abs().max() < 1e-4
    assert moved[:, :, :, -3:].abs().max() < 1e-4


def test_a_quarter_turn_is_a_rotation_about_the_centre() -> None:
    images = noise(1)
    _, flip, shifts = still(1)
    turned = resample(images, torch.tensor([math.pi / 2]), flip, shifts, 32)
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_augmented_images_keep_their_shape_and_range() -> None:
    images = noise(64)
    augmented = crop_flip_rotate(images, seeded(), 32)
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.min() >= 0
    assert augmented.max() <= 1 + 1e-6
    assert augmented.is_contiguous(memory_format=torch.channels_last)


def test_the_draws_come_from_the_generator_alone() -> None:
    images = noise(8)
    torch.manual_seed(1)
    first = crop_flip_rotate(images, seeded(5), 32)
    torch.manual_seed(2)
    assert torch.equal(crop_flip_rotate(images, seeded(5), 32), first)
    assert not torch.equal(crop_flip_rotate(images, seeded(6), 32), first)


def test_a_row_does_not_depend_on_the_other_images() -> None:
    images, others = noise(8), noise(8)
    others[:3], others[4:] = 0.5, 1.0
    assert torch.equal(
        crop_flip_rotate(images, seeded(), 32)[3], crop_flip_rotate(others, seeded(), 32)[3]
    )


def test_every_image_has_draws_of_its_own() -> None:
    augmented = crop_flip_rotate(noise(1).expand(16, -1, -1, -1), seeded(), 32)
    assert len({row.numpy().tobytes() for row in augmented}) == 16


def test_shifts_and_angles_stay_within_the_recipe() -> None:
    """A dot moves by the shift, then by the turn about the centre, but no farther."""
    dot = torch.zeros(1, 3, 33, 33)
    dot[:, :, 16, 24] = 1.0  # eight pixels right of the centre
    augmented = crop_flip_rotate(dot.expand(500, -1, -1, -1), seeded(), 33)[:, 0]
    mass = augmented.sum(dim=(1, 2))
    rows = (augmented.sum(dim=2) * torch.arange(33)).sum(dim=1) / mass - 16
    columns = (augmented.sum(dim=1) * torch.arange(33)).sum(dim=1) / mass - 16
    angle = math.radians(MAX_ROTATION_DEGREES)
    farthest = CROP_PADDING * math.cos(angle) + (8 + CROP_PADDING) * math.sin(angle)
    assert farthest - 1 < rows.max() <= farthest + 0.1
    assert farthest - 1 < -rows.min() <= farthest + 0.1
    radius = (rows**2 + columns**2).sqrt()
    assert 8 - CROP_PADDING - 0.1 <= radius.min() < 8 - CROP_PADDING + 1
    assert radius.max() <= math.hypot(8 + CROP_PADDING, CROP_PADDING) + 0.1
    assert 0.4 < (columns > 0).float().mean() < 0.6  # half of them are mirrored


def test_bytes_become_fractions_with_channels_first() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 4, 5, 3)
    fractions = to_unit_range(images)
    assert fractions.shape == (2, 3, 4, 5)
    torch.testing.assert_close(fractions[0, :, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
