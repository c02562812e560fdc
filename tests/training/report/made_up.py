"""Reports of runs that never were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from training.report import ReportContents, RunResults

COUNTS = (500, 101, 100, 20, 19, 1)
NAMES = ("apple", "bear", "cloud", "dolphin", "elm", "fox")


def answers(predicted: Sequence[int] | NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Probabilities [N, C] of 0.7 for the predicted class, the rest shared."""
    chosen = np.eye(classes)[np.asarray(predicted)]
    shared = 0.3 / max(classes - 1, 1)
    probabilities: NDArray[np.float32] = (shared + (0.7 - shared) * chosen).astype(np.float32)
    return probabilities


def run_of(
    name: str, labels: NDArray[np.int64], classes: int, *, right: float = 0.6, seed: int = 0
) -> RunResults:
    """A run of three experts whose routed and full answers are right this often."""
    generator = np.random.default_rng(seed)
    routed, full = (
        np.where(generator.random(len(labels)) < right, labels, (labels + 1) % classes)
        for _ in range(2)
    )
    return RunResults(
        name=name,
        probabilities=answers(routed, classes),
        all_experts=answers(full, classes),
        experts_used=generator.integers(1, 4, len(labels)).astype(np.int32),
        mean_multiply_adds=84.8e6 + seed * 1e6,
        all_experts_multiply_adds=100.4e6,
    )


def curve_of(name: str, height: float = 0.5) -> Curve:
    """Five points, dearer and better from one to the next."""
    points = (
        CurvePoint((1 - i / 4, 1 - i / 4), height + i / 50, 1 + i / 2, (50 + 12 * i) * 1e6)
        for i in range(5)
    )
    return Curve(name, tuple(points))


def contents_of(
    *, counts: tuple[int, ...] = COUNTS, names: tuple[str, ...] = NAMES, each: int = 20, **more: Any
) -> ReportContents:
    """A report on `each` test images of every class."""
    labels = np.arange(len(counts) * each) % len(counts)
    parts: dict[str, Any] = {
        "title": "first: made-up",
        "facts": {"seed": "0"},
        "labels": labels,
        "run": run_of("first", labels, len(counts)),
    }
    return ReportContents(class_names=names, class_counts=counts, **{**parts, **more})


def full_contents(**more: Any) -> ReportContents:
    """A report that has all there is: two baselines, curves, operating points, three seeds."""
    labels = np.arange(120) % 6
    first, second, third = (run_of(f"run {i}", labels, 6, seed=i) for i in range(3))
    parts: dict[str, Any] = {
        "labels": labels,
        "run": first,
        "baselines": (second, run_of("plain", labels, 6, right=0.3, seed=4)),
        "curves": (curve_of("margin"), curve_of("random", 0.45), curve_of("oracle", 0.6)),
        "operating_points": {"as evaluated": curve_of("margin").points[2]},
        "repeated_runs": (first, second, third),
    }
    return contents_of(**{**parts, **more})
