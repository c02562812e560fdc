"""Thresholds for a budget: the best accuracy that a router reaches at each cost. Pure.

All K-1 thresholds are chosen together, because a harder first router leaves other images to the
second. "Right" is whatever the caller measures an answer by: the label, or the full ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from serving.model.manifest import MultiplyAdds
from serving.model.routing import Float

Right = NDArray[np.bool_]
Weights = NDArray[np.float64]

MAX_CANDIDATES = 64
"""Thresholds to try of each router. More would fit the images at hand, not the model."""

_MAX_COMBINATIONS = 300_000


def frontier(
    name: str, scores: Float, right: Right, costs: MultiplyAdds, weights: Weights | None = None
) -> Curve:
    """The settings of all thresholds that no other setting beats, cheapest first.

    Both accuracy and mean experts rise strictly along the curve. Candidates for each threshold
    are 0, 1, and quantiles of the router's scores: 64 up to four experts, so many that there are
    at most 300,000 combinations beyond. Every combination is tried, in one pass over the images
    for each router and one over the combinations: O(K (N + 300,000)) time.

    Args: scores [K-1, N] of routers 1..K-1; right [K, N], whether the mean of the first k experts
    is right; weights of the images [N] in both accuracy and cost, equal if not given.
    """
    weights = np.ones(right.shape[1]) if weights is None else weights
    total = float(weights.sum())
    grid = _candidates(scores)
    # Thresholds below an image's score: with any of these it goes on.
    beaten = [np.searchsorted(grid[i], scores[i], side="left") for i in range(len(grid))]
    correct = np.asarray(weights @ right[0], dtype=np.float64)
    experts = np.asarray(total)
    spent = np.asarray(total * _spent(costs, 1))
    for i in range(len(grid)):
        reached = [len(thresholds) for thresholds in grid[: i + 1]]
        going = _going_on(beaten[: i + 1], reached, weights)
        gain = weights * (right[i + 1].astype(np.float64) - right[i])
        correct = correct[..., None] + _going_on(beaten[: i + 1], reached, gain)
        experts = experts[..., None] + going
        spent = spent[..., None] + going * (_spent(costs, i + 2) - _spent(costs, i + 1))
    points = [
        CurvePoint(
            tuple(float(thresholds[j]) for thresholds, j in zip(grid, place, strict=True)),
            float(correct[place]) / total,
            float(experts[place]) / total,
            float(spent[place]) / total,
        )
        for place in _undominated(experts, correct)
    ]
    return Curve(name, tuple(points))


def measured(
    thresholds: Sequence[float],
    scores: Float,
    right: Right,
    costs: MultiplyAdds,
    weights: Weights | None = None,
) -> CurvePoint:
    """What one setting of the thresholds gives; arguments as those of `frontier`."""
    last = experts_used(thresholds, scores) - 1
    spent = np.array([_spent(costs, k + 1) for k in range(len(right))])
    answers = right[last, np.arange(right.shape[1])]
    return CurvePoint(
        tuple(thresholds),
        float(np.average(answers, weights=weights)),
        float(np.average(last + 1, weights=weights)),
        float(np.average(spent[last], weights=weights)),
    )


def experts_used(thresholds: Sequence[float], scores: Float) -> NDArray[np.intp]:
    """How many experts each image takes, [N]: one more while its score is above the threshold."""
    limits = np.asarray(thresholds, dtype=np.float32).reshape(-1, 1)
    used: NDArray[np.intp] = 1 + np.logical_and.accumulate(scores > limits).sum(axis=0)
    return used


def _candidates(scores: Float) -> list[Float]:
    """Thresholds to try for each router, ascending; each is a score, or 0, or 1."""
    if not len(scores):
        return []
    most = min(MAX_CANDIDATES, int(_MAX_COMBINATIONS ** (1 / len(scores))))
    levels = np.linspace(0, 1, most)[1:-1]
    ends = np.array([0, 1], dtype=np.float32)
    return [
        np.unique(np.concatenate((ends, np.quantile(row, levels, method="lower"))))
        for row in scores.astype(np.float32)
    ]


def _going_on(
    beaten: Sequence[NDArray[np.intp]], sizes: Sequence[int], amounts: Weights
) -> NDArray[np.float64]:
    """Sum of `amounts` [N] over the images that go on from every router, for each combination.

    An image goes on with threshold number j where `beaten` > j. So the answer is a histogram over
    `beaten`, summed from the high end along each axis; its shape is `sizes`.
    """
    bins = [size + 1 for size in sizes]
    flat = np.ravel_multi_index(tuple(beaten), bins)
    counted = np.bincount(flat, weights=amounts, minlength=int(np.prod(bins)))
    histogram = counted.astype(np.float64).reshape(bins)
    for axis in range(len(bins)):
        histogram = np.flip(np.flip(histogram, axis).cumsum(axis), axis)
    return histogram[(slice(1, None),) * len(bins)]


def _undominated(
    experts: NDArray[np.float64], correct: NDArray[np.float64]
) -> list[tuple[np.intp, ...]]:
    """Places of the combinations that are more accurate than all that are no more expensive."""
    order = np.lexsort((-correct.ravel(), experts.ravel()))
    best = np.maximum.accumulate(correct.ravel()[order])
    better = np.concatenate(([True], best[1:] > best[:-1]))
    if not experts.ndim:  # one expert: there is nothing to choose
        return [()]
    return list(zip(*np.unravel_index(order[better], experts.shape), strict=True))


def _spent(costs: MultiplyAdds, experts: int) -> int:
    """Multiply-adds of an image that stops after so many experts; the last asks no router."""
    return costs.spent(experts, min(experts, len(costs.routers)))
