"""Shot groups: classes by how many training images they had (Liu et al., CVPR 2019, section 4).

Many-shot classes have more than 100 images, few-shot classes less than 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = ("many", "medium", "few")
MANY_ABOVE = 100
FEW_BELOW = 20


@dataclass(frozen=True)
class Accuracy:
    """Top-1, as a share; None for a shot group without classes."""

    overall: float
    many: float | None
    medium: float | None
    few: float | None

    def __post_init__(self) -> None:
        shares = (self.overall, self.many, self.medium, self.few)
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise ValueError("accuracy must lie between 0 and 1")


def shot_groups(class_counts: Sequence[float]) -> NDArray[np.int8]:
    """Of each of C classes, the place of its group in `GROUPS`, int8 [C]."""
    counts = np.asarray(class_counts)
    groups: NDArray[np.int8] = np.select((counts > MANY_ABOVE, counts >= FEW_BELOW), (0, 1), 2)
    return groups.astype(np.int8)


def accuracy_by_shot(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], class_counts: Sequence[int]
) -> Accuracy:
    """Top-1 of predictions [N] against labels [N], overall and per shot group of the label."""
    right = predicted == labels
    groups = shot_groups(class_counts)[labels]
    shares = (_mean(right[groups == place]) for place in range(len(GROUPS)))
    return Accuracy(float(right.mean()), *shares)


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
