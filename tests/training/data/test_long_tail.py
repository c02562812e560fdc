"""The long-tailed subset, and what it leaves out."""

from __future__ import annotations

import pytest
import torch

from training.config import DataConfig
from training.data.images import ImageSet
from training.data.long_tail import left_over, long_tailed_counts, long_tailed_subset
from training.errors import ConfigError, DataError


def balanced(each: int, classes: int = 100) -> ImageSet:
    """A set whose single pixel holds the row's number, so that rows can be told apart."""
    labels = torch.arange(classes).repeat(each)
    images = torch.arange(len(labels), dtype=torch.int32).view(-1, 1, 1, 1)
    return ImageSet(images, labels, tuple(f"class {k}" for k in range(classes)))


@pytest.mark.parametrize(
    ("factor", "total", "smallest"), [(100, 10_847, 5), (50, 12_608, 10), (10, 19_573, 50)]
)
def test_cifar100_lt_has_the_published_number_of_images(
    factor: int, total: int, smallest: int
) -> None:
    counts = long_tailed_counts(500, 100, factor)
    assert (sum(counts), counts[0], counts[-1]) == (total, 500, smallest)
    assert counts == sorted(counts, reverse=True)


def test_without_imbalance_every_class_keeps_its_images() -> None:
    assert long_tailed_counts(500, 10, 1.0) == [500] * 10


def test_the_subset_has_exactly_the_wanted_counts_of_distinct_images() -> None:
    full = balanced(20)
    subset = long_tailed_subset(full, DataConfig(imbalance_factor=10))
    assert subset.class_counts == tuple(long_tailed_counts(20, 100, 10))
    rows = subset.images.flatten().long()
    assert len(set(rows.tolist())) == len(rows) == len(subset)
    assert torch.equal(full.labels[rows], subset.labels)
    assert subset.class_names == full.class_names


def test_the_subset_is_the_same_for_the_same_seed_only() -> None:
    full = balanced(20)

    def rows(seed: int) -> list[int]:
        subset = long_tailed_subset(full, DataConfig(imbalance_factor=10, subset_seed=seed))
        return subset.images.flatten().tolist()

    assert rows(1) == rows(1) != rows(2)


def test_a_class_with_too_few_images_is_named() -> None:
    full = balanced(20)
    scarce = full.subset(torch.nonzero((full.labels != 2) | (torch.arange(2000) < 300)).flatten())
    with pytest.raises(DataError, match=r"'class 2' has 3 training images.* wants 19"):
        long_tailed_subset(scarce, DataConfig(imbalance_factor=10))


@pytest.mark.parametrize("factor", [21.0, 1e9])
def test_a_factor_that_empties_a_class_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"leaves a class without images: .* has 20"):
        long_tailed_subset(balanced(20), DataConfig(imbalance_factor=factor))


def test_what_is_left_over_is_not_in_the_subset() -> None:
    full, config = balanced(80, classes=10), DataConfig(imbalance_factor=10, subset_seed=3)
    kept = set(long_tailed_subset(full, config).images.flatten().tolist())
    left = left_over(full, config)
    rows = left.images.flatten().long()
    assert kept.isdisjoint(rows.tolist())
    assert len(set(rows.tolist())) == len(left)
    assert torch.equal(full.labels[rows], left.labels)


def test_each_class_leaves_over_at_most_50_images() -> None:
    left = left_over(balanced(80, classes=10), DataConfig(imbalance_factor=10))
    kept = long_tailed_counts(80, 10, 10)
    assert left.class_counts == tuple(min(50, 80 - count) for count in kept)
    assert left.class_counts[0] == 0
    assert left.class_counts[-1] == 50


def test_what_is_left_over_is_the_same_for_the_same_seed_only() -> None:
    full = balanced(80, classes=10)

    def rows(seed: int) -> list[int]:
        left = left_over(full, DataConfig(imbalance_factor=10, subset_seed=seed))
        return left.images.flatten().tolist()

    assert rows(1) == rows(1) != rows(2)
