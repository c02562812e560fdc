"""Mixup: shares, partners, and where the draws come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.augmentation.mixup import mix, mixup


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    """Image i is i / 10 everywhere, and its label is i."""
    labels = torch.arange(count)
    return (labels / 10).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous(), labels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_share_of_one_leaves_images_as_they_are() -> None:
    images, labels = batch()
    mixed = mix(images, labels, labels.flip(0), 1.0)
    assert torch.equal(mixed.images, images)
    assert torch.equal(mixed.labels, labels)


def test_a_share_of_nought_gives_the_partners() -> None:
    images, labels = batch()
    mixed = mix(images, labels, labels.flip(0), 0.0)
    assert torch.equal(mixed.images, images.flip(0))
    assert torch.equal(mixed.partner_labels, labels.flip(0))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.1, 10))
def test_images_and_labels_are_mixed_with_the_same_partners(seed: int, alpha: float) -> None:
    images, labels = batch()
    mixed = mixup(images, labels, alpha, seeded(seed))
    assert 0 <= mixed.share <= 1
    assert torch.equal(mixed.labels, labels)
    assert sorted(mixed.partner_labels.tolist()) == labels.tolist()
    expected = (mixed.share * labels + (1 - mixed.share) * mixed.partner_labels) / 10
    torch.testing.assert_close(
        mixed.images, expected.view(-1, 1, 1, 1).expand_as(images), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    images, labels = batch(2)
    shares = np.array([mixup(images, labels, alpha, seeded(seed)).share for seed in range(2000)])
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
    assert abs(shares.mean() - 0.5) < 4 * np.sqrt(variance / 2000)
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_the_draws_come_from_the_generator_alone() -> None:
    images, labels = batch()
    torch.manual_seed(1)
    np.random.seed(1)
    first = mixup(images, labels, 0.4, seeded(5))
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = mixup(images, labels, 0.4, seeded(5)), mixup(images, labels, 0.4, seeded(6))
    assert torch.equal(again.images, first.images)
    assert again.share == first.share != other.share


def test_images_stay_channels_last() -> None:
    images, labels = batch()
    mixed = mixup(images.contiguous(memory_format=torch.channels_last), labels, 1.0, seeded())
    assert mixed.images.is_contiguous(memory_format=torch.channels_last)
