"""Transforms of large images: sizes, randomness, and agreement with the server."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import ImageSpec
from training.augmentation.images import evaluation_transform, training_transform
from training.choices import Policy
from training.config import AugmentationConfig, DataConfig

DATA = DataConfig(image_size=24, resize_shorter_side=28)
EVERYTHING = AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=8, color_jitter=0.4)


def noise(width: int = 60, height: int = 40) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmented(
    config: AugmentationConfig, seed: int = 0, image: Image.Image | None = None
) -> Tensor:
    return training_transform(config, DATA)(image or noise(), seeded(seed))


@settings(max_examples=30)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(4, 40), st.integers(0, 12))
def test_evaluation_does_what_the_server_does(
    width: int, height: int, size: int, margin: int
) -> None:
    image = noise(width, height)
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    served = decode_image(
        encoded.getvalue(), ImageSpec(size, size, size + margin, "bilinear"), ImageLimits()
    )
    data = DataConfig(image_size=size, resize_shorter_side=size + margin)
    ours = evaluation_transform(data)(image)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, torch.from_numpy(served).permute(2, 0, 1))


@pytest.mark.parametrize("policy", list(Policy))
def test_every_policy_gives_bytes_of_the_size(policy: Policy) -> None:
    config = AugmentationConfig(policy=policy, cutout=8, color_jitter=0.4)
    for seed in range(10):
        changed = augmented(config, seed)
        assert changed.shape == (3, 24, 24)
        assert changed.dtype == torch.uint8


@pytest.mark.parametrize("policy", [Policy.STANDARD, Policy.AUTOAUGMENT, Policy.RANDAUGMENT])
def test_the_outcome_depends_on_the_given_generator_alone(policy: Policy) -> None:
    config = AugmentationConfig(policy=policy, cutout=8, color_jitter=0.4)
    torch.manual_seed(1)
    first = augmented(config, 5)
    torch.manual_seed(2)
    assert torch.equal(augmented(config, 5), first)
    assert not torch.equal(augmented(config, 6), first)


def test_the_same_generator_gives_something_else_the_next_time() -> None:
    transform, generator = training_transform(EVERYTHING, DATA), seeded()
    assert not torch.equal(transform(noise(), generator), transform(noise(), generator))


def test_the_global_generator_stays_as_it_is() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    augmented(EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_policy_none_is_the_evaluation_transform() -> None:
    plain = augmented(AugmentationConfig(policy=Policy.NONE))
    assert torch.equal(plain, evaluation_transform(DATA)(noise()))


def test_half_of_the_images_are_mirrored() -> None:
    """A ramp from black on the left to white on the right; any part of it is one, too."""
    ramp = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8)[:, None] * 4, (40, 1, 3)))
    mirrored = 0
    for seed in range(200):
        changed = augmented(AugmentationConfig(), seed, ramp).float()
        mirrored += int(changed[:, :, 0].mean() > changed[:, :, -1].mean())
    assert 70 < mirrored < 130


def test_crops_differ_in_size() -> None:
    """On a ramp, the difference between the edges tells how wide the part was."""
    ramp = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8)[:, None] * 4, (40, 1, 3)))
    widths = []
    for seed in range(50):
        changed = augmented(AugmentationConfig(), seed, ramp).float()
        widths.append(float((changed[:, :, -1] - changed[:, :, 0]).abs().mean()) / 4)
    assert min(widths) < 20
    assert max(widths) > 40


def test_colour_jitter_changes_brightness_within_its_range_and_no_hue() -> None:
    red = Image.new("RGB", (40, 40), (100, 0, 0))
    levels = []
    for seed in range(100):
        changed = augmented(AugmentationConfig(color_jitter=0.4), seed, red).float()
        assert (changed[1] == changed[2]).all()
        levels.append(float(changed[0].mean()))
    assert min(levels) < 70
    assert max(levels) > 130
    assert (augmented(AugmentationConfig(), 0, red)[0] == 100).all()


def test_cutout_blanks_a_square_of_grey() -> None:
    black = Image.new("RGB", (40, 40))
    holes = [augmented(AugmentationConfig(cutout=8), seed, black)[0] == 128 for seed in range(40)]
    assert max(int(hole.sum()) for hole in holes) == 64
    assert min(int(hole.sum()) for hole in holes) >= 16


def test_the_transforms_can_be_sent_to_a_worker_process() -> None:
    again = pickle.loads(pickle.dumps(training_transform(EVERYTHING, DATA)))
    assert torch.equal(again(noise(), seeded()), augmented(EVERYTHING))
    pickle.dumps(evaluation_transform(DATA))
