"""The statistics of a report: pure functions of arrays.

N images, C classes, R runs, B bins. A mean over nothing is absent or NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.model.shot_groups import GROUPS, shot_groups

CALIBRATION_BINS = 15
OVERALL = "overall"

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in B bins of equal width over (0, 1].

    `share` [B] sums to 1; `confidence` and `accuracy` [B] are means over a bin's images, NaN in an
    empty bin. `error` is the expected calibration error: Guo et al., "On Calibration of Modern
    Neural Networks", ICML 2017, equation 3.
    """

    error: float
    mean_confidence: float
    share: Floats
    confidence: Floats
    accuracy: Floats


@dataclass(frozen=True)
class Spread:
    """How several runs do on the same images: means over images, as shares."""

    accuracy: float
    bias: float
    variance: float


def images_by_group(labels: Ints, class_counts: Sequence[int]) -> dict[str, Bools]:
    """Masks [N]: all images, then those of each shot group that has any."""
    groups = shot_groups(class_counts)[labels]
    masks = {name: groups == place for place, name in enumerate(GROUPS)}
    return {
        OVERALL: np.ones(len(labels), dtype=bool),
        **{name: mask for name, mask in masks.items() if mask.any()},
    }


def shares_of_experts(experts_used: Ints, experts: int) -> Floats:
    """The share of images that stop after 1..K experts, [K]."""
    counts = np.bincount(experts_used, minlength=experts + 1)[1:]
    shares: Floats = counts / len(experts_used)
    return shares


def means_by_class(values: NDArray[np.generic], labels: Ints, classes: int) -> Floats:
    """The mean of values [N] over the images of each class, [C]; NaN for a class without images."""
    sums = np.bincount(labels, weights=values, minlength=classes)
    images = np.bincount(labels, minlength=classes)
    means: Floats = np.divide(sums, images, out=np.full(classes, np.nan), where=images > 0)
    return means


def classes_by_size(class_counts: Sequence[int], bins: int) -> list[NDArray[np.intp]]:
    """Class indices, largest class first, in at most `bins` runs of nearly equal length."""
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    return np.array_split(order, min(bins, len(order)))


def reliability(confidence: NDArray[np.floating], right: Bools) -> Reliability:
    """How well the confidence [N] of answers, in [0, 1], matches whether they are right [N]."""
    places = np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1
    places = places.clip(0, CALIBRATION_BINS - 1)
    means = [means_by_class(values, places, CALIBRATION_BINS) for values in (confidence, right)]
    share = np.bincount(places, minlength=CALIBRATION_BINS) / len(right)
    gaps = np.abs(means[0] - means[1])
    return Reliability(
        error=float(np.nansum(share * gaps)),
        mean_confidence=float(confidence.mean(dtype=np.float64)),
        share=share,
        confidence=means[0],
        accuracy=means[1],
    )


def main_prediction(predicted: Ints) -> Ints:
    """What most of the runs predict [R, N] for each image, [N]; of a tie the smallest class."""
    votes = np.stack([(predicted == one).sum(axis=0) for one in predicted])
    never = np.iinfo(predicted.dtype).max
    main: Ints = np.where(votes == votes.max(axis=0), predicted, never).min(axis=0)
    return main


def spread(predicted: Ints, labels: Ints) -> Spread:
    """Accuracy, bias and variance of predictions [R, N] for zero-one loss.

    Domingos, "A Unified Bias-Variance Decomposition for Zero-One and Squared Loss", AAAI 2000:
    bias is how often the main prediction is wrong, variance how often a run differs from it.
    """
    main = main_prediction(predicted)
    return Spread(
        accuracy=float((predicted == labels).mean()),
        bias=float((main != labels).mean()),
        variance=float((predicted != main).mean()),
    )
