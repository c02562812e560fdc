"""`augment_batch`: what each setting adds, at every size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from training.augmentation.batch import augment_batch
from training.augmentation.geometry import resample, to_unit_range
from training.augmentation.policies import autoaugment, randaugment
from training.choices import Policy
from training.config import AugmentationConfig

NONE = AugmentationConfig(policy=Policy.NONE)
STANDARD = AugmentationConfig(policy=Policy.STANDARD)
ALL_OF_IT = AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=16, color_jitter=0.4)


def bytes_of_noise(count: int, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_standard_policy_is_one_resampling_with_angle_flip_and_shifts_drawn_in_turn() -> None:
    images = bytes_of_noise(16)
    draws = seeded(7)
    angle = (torch.rand(16, generator=draws) * 2 - 1) * math.radians(15)
    flip = torch.where(torch.rand(16, generator=draws) < 0.5, -1.0, 1.0)
    shifts = torch.randint(-4, 5, (2, 16), generator=draws)
    expected = resample(to_unit_range(images), angle, flip, shifts, 32)
    assert torch.equal(augment_batch(images, STANDARD, seeded(7), 32), expected)


def test_the_policy_none_changes_nothing() -> None:
    images = bytes_of_noise(4)
    assert torch.equal(augment_batch(images, NONE, seeded(), 32), to_unit_range(images))


@pytest.mark.parametrize(
    ("policy", "operations"),
    [(Policy.AUTOAUGMENT, autoaugment), (Policy.RANDAUGMENT, randaugment)],
)
def test_the_policies_operate_on_cropped_and_flipped_images(
    policy: Policy, operations: Callable[[Tensor, torch.Generator], Tensor]
) -> None:
    """The crop as recipes describe it: from the image with 4 black pixels on every side."""
    images = bytes_of_noise(32)
    draws = seeded(3)
    flips = torch.rand(32, generator=draws) < 0.5
    shifts = torch.randint(-4, 5, (2, 32), generator=draws)
    padded = F.pad(to_unit_range(images), (4, 4, 4, 4))
    crops = []
    for row in range(32):
        left, top = (4 + shifts[:, row]).tolist()
        crop = padded[row, :, top : top + 32, left : left + 32]
        crops.append(crop.flip(2) if flips[row] else crop)
    expected = operations(torch.stack(crops), draws)
    changed = augment_batch(images, AugmentationConfig(policy=policy), seeded(3), 32)
    torch.testing.assert_close(changed, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("size", [32, 24, 8])
def test_shape_range_and_layout_are_the_same_for_every_policy(policy: Policy, size: int) -> None:
    config = replace(ALL_OF_IT, policy=policy)
    changed = augment_batch(bytes_of_noise(32), config, seeded(), size)
    assert changed.shape == (32, 3, size, size)
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6
    assert changed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", [NONE, STANDARD])
def test_a_smaller_image_shows_the_same_as_the_large_one(config: AugmentationConfig) -> None:
    coarse = torch.rand(8, 3, 4, 4, generator=seeded(2))
    smooth = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1) * 255
    images = smooth.byte().permute(0, 2, 3, 1)
    large = augment_batch(images, config, seeded(), 32)
    small = augment_batch(images, config, seeded(), 16)
    assert (F.avg_pool2d(large, 2) - small).abs().mean() < 0.01


def test_the_draws_come_from_the_generator_alone() -> None:
    images = bytes_of_noise(8)
    torch.manual_seed(1)
    first = augment_batch(images, ALL_OF_IT, seeded(5), 32)
    torch.manual_seed(2)
    assert torch.equal(augment_batch(images, ALL_OF_IT, seeded(5), 32), first)
    assert not torch.equal(augment_batch(images, ALL_OF_IT, seeded(6), 32), first)


def test_the_images_themselves_stay_as_they_are() -> None:
    images = bytes_of_noise(8)
    before = images.clone()
    augment_batch(images, ALL_OF_IT, seeded(), 32)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("size", "side"), [(32, 16), (24, 12), (16, 8)])
def test_the_blanked_square_shrinks_with_the_image(size: int, side: int) -> None:
    black = torch.zeros(200, 32, 32, 3, dtype=torch.uint8)
    changed = augment_batch(black, replace(NONE, cutout=16), seeded(), size)
    assert (changed[:, 0] > 0).sum(dim=(1, 2)).max() == side**2


def test_colour_jitter_changes_brightness_contrast_and_saturation_within_its_range() -> None:
    images = bytes_of_noise(1)
    image = to_unit_range(images)
    draws = seeded(4)
    adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    expected = image
    for index in torch.randperm(3, generator=draws).tolist():
        factor = 1 + (torch.rand(1, generator=draws).item() * 2 - 1) * 0.4
        assert 0.6 <= factor <= 1.4
        expected = adjust[index](expected, factor)
    changed = augment_batch(images, replace(NONE, color_jitter=0.4), seeded(4), 32)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


def test_every_image_is_jittered_on_its_own() -> None:
    grey = torch.full((500, 8, 8, 3), 100, dtype=torch.uint8)
    changed = augment_batch(grey, replace(NONE, color_jitter=0.4), seeded(), 8)
    brightness = changed.mean(dim=(1, 2, 3)) * 255
    assert 60 - 0.1 <= brightness.min() < 62  # 100 * 0.6
    assert 138 < brightness.max() <= 140 + 0.1
    assert brightness.mean() == pytest.approx(100, abs=4)
