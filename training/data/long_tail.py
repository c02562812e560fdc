"""The long-tailed part of a balanced training split, and what it leaves out."""

from __future__ import annotations

import torch
from torch import Tensor

from training.config import DataConfig
from training.data.images import ImageSet
from training.errors import ConfigError, DataError

MOST_LEFT_OVER = 50
"""Images of a class that are taken of those that the subset leaves out."""


def long_tailed_counts(largest: int, num_classes: int, imbalance_factor: float) -> list[int]:
    """Images of each class: n_k = int(n_max * IF^(-k/(C-1))) (Cui et al. 2019, section 5.1)."""
    exponents = (-k / (num_classes - 1) for k in range(num_classes))
    return [int(largest * imbalance_factor**exponent) for exponent in exponents]


def long_tailed_subset(full: ImageSet, config: DataConfig) -> ImageSet:
    """The long-tailed part of a balanced training split; the same for the same `subset_seed`.

    Raises:
        DataError: if the split has fewer images of some class than the subset wants.
        ConfigError: if the imbalance factor would leave a class without images.
    """
    if config.imbalance_factor is None:
        return full
    wanted = _wanted(full, config.imbalance_factor)
    return _rows_of_each_class(full, config, [(0, count) for count in wanted])


def left_over(full: ImageSet, config: DataConfig) -> ImageSet:
    """Images that the subset of the same configuration leaves out, at most 50 of each class.

    Classes that have fewer give what they have: at an imbalance factor of 100 the largest class
    of CIFAR has none, and the next few have less than 50.

    Raises:
        DataError, ConfigError: as `long_tailed_subset` does.
    """
    assert config.imbalance_factor is not None, "without a subset nothing is left out"
    wanted = _wanted(full, config.imbalance_factor)
    return _rows_of_each_class(full, config, [(n, n + MOST_LEFT_OVER) for n in wanted])


def _wanted(full: ImageSet, factor: float) -> list[int]:
    largest = max(full.class_counts)
    wanted = long_tailed_counts(largest, len(full.class_names), factor)
    if min(wanted) < 1:
        raise ConfigError(
            f"an imbalance factor of {factor:g} leaves a class without images: "
            f"the largest class has {largest}"
        )
    for name, count, least in zip(full.class_names, full.class_counts, wanted, strict=True):
        if count < least:
            raise DataError(
                f"class {name!r} has {count} training images, "
                f"and the long-tailed subset wants {least}"
            )
    return wanted


def _rows_of_each_class(
    full: ImageSet, config: DataConfig, parts: list[tuple[int, int]]
) -> ImageSet:
    """Of each class, in an order drawn by the seed, the images from one place up to another."""
    generator = torch.Generator().manual_seed(config.subset_seed)
    chosen: list[Tensor] = []
    for label, (start, end) in enumerate(parts):
        rows = torch.nonzero(full.labels == label).flatten()
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[start:end]])
    return full.subset(torch.cat(chosen).sort().values)
