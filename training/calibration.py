"""Which of the thresholds of `serving.model.thresholds` a model gets: of a budget or its gears.

They are chosen on calibration images, which neither trained the model nor test it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from serving.model.thresholds import Weights
from training.errors import ConfigError

GEAR_DROPS = {"fast": 0.02, "balanced": 0.003}
"""How much accuracy, as a share, a gear may lose against all experts."""


def class_balanced_weights(labels: NDArray[np.int64]) -> Weights:
    """Weights [N] with which every class among the labels counts the same, 1 on average."""
    counts = np.bincount(labels)
    weights: Weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights


def best_within(curve: Curve, mean_experts: float) -> CurvePoint:
    """The most accurate point that takes at most so many experts on average.

    Raises:
        ConfigError: for fewer than one expert, which nothing can do with.
    """
    point = curve.best_within(mean_experts)
    if point is None:
        raise ConfigError(f"every image takes one expert, so a mean of {mean_experts:g} can't be")
    return point


def cheapest_reaching(curve: Curve, accuracy: float) -> CurvePoint:
    """The cheapest point of at least this accuracy.

    Raises:
        ConfigError: if the curve doesn't come so high.
    """
    point = curve.cheapest_reaching(accuracy)
    if point is not None:
        return point
    highest = curve.points[-1].accuracy
    raise ConfigError(
        f"no thresholds of {curve.name} reach an accuracy of {100 * accuracy:.2f} %; "
        f"the most is {100 * highest:.2f} %"
    )


def gears(curve: Curve, all_experts: float) -> dict[str, tuple[float, ...]]:
    """Thresholds of the three gears, against the accuracy of all experts on the same images.

    `fast` is the cheapest setting that loses at most 2 points, `balanced` at most 0.3, and `full`
    sends every image to every expert.
    """
    chosen = {
        name: cheapest_reaching(curve, all_experts - drop).thresholds
        for name, drop in GEAR_DROPS.items()
    }
    return {**chosen, "full": (0.0,) * len(curve.points[0].thresholds)}
