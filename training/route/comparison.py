"""Ways of routing, side by side: thresholds from calibration images, figures from test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from serving.model.manifest import MultiplyAdds
from serving.model.routing import Float
from serving.model.thresholds import Right, Weights, frontier, measured
from training.calibration import GEAR_DROPS, best_within, cheapest_reaching

BUDGETS = (1.25, 1.5, 1.76, 2.0)
"""Mean experts; 1.76 reduced ResNet-32 experts cost what one plain ResNet-32 does."""

_MAX_DRAWN_POINTS = 100


@dataclass(frozen=True)
class PrefixPredictions:
    """What is known of a set of images, whatever router is asked.

    Shapes: predictions of each prefix [K, N], labels [N], weights of the images [N] (equal if not
    given).
    """

    predictions: NDArray[np.intp]
    labels: NDArray[np.int64]
    weights: Weights | None = None

    @property
    def right(self) -> Right:
        """Whether each prefix is right, [K, N]."""
        right: Right = self.predictions == self.labels
        return right

    @property
    def all_experts(self) -> float:
        """Accuracy of the full ensemble."""
        return float(np.average(self.right[-1], weights=self.weights))


@dataclass(frozen=True)
class ScoredRouter:
    """A way of routing: what it costs, and its scores [K-1, N] on either set."""

    name: str
    costs: MultiplyAdds
    calibration: Float
    test: Float

    def curve(self, calibration: PrefixPredictions) -> Curve:
        """Its frontier on the calibration images."""
        return frontier(
            self.name, self.calibration, calibration.right, self.costs, calibration.weights
        )

    def on_test(self, thresholds: Sequence[float], test: PrefixPredictions) -> CurvePoint:
        """What thresholds give on the test images."""
        return measured(thresholds, self.test, test.right, self.costs, test.weights)


@dataclass(frozen=True)
class ComparisonRow:
    """A router's figures on the test images.

    Attributes:
        near_full: with the cheapest thresholds that lose at most 0.3 points on calibration images.
        at_budgets: with the best thresholds within each of `BUDGETS` there.
        curve: with all thresholds of its frontier there.
    """

    name: str
    near_full: CurvePoint
    at_budgets: tuple[CurvePoint, ...]
    curve: Curve


def compare(
    scored: ScoredRouter, calibration: PrefixPredictions, test: PrefixPredictions
) -> ComparisonRow:
    """Choose on calibration images, measure on test images."""
    curve = scored.curve(calibration)
    target = calibration.all_experts - GEAR_DROPS["balanced"]
    drawn = np.linspace(0, len(curve.points) - 1, min(_MAX_DRAWN_POINTS, len(curve.points)))
    thresholds = [curve.points[round(place)].thresholds for place in drawn]
    return ComparisonRow(
        scored.name,
        scored.on_test(cheapest_reaching(curve, target).thresholds, test),
        tuple(scored.on_test(best_within(curve, budget).thresholds, test) for budget in BUDGETS),
        Curve(scored.name, tuple(scored.on_test(chosen, test) for chosen in thresholds)),
    )


def draw(curves: Sequence[Curve], all_experts: float, path: Path) -> None:
    """Draw accuracy against mean experts to an SVG file; the same file each time."""
    # Slow to import, and not everybody draws; the folder comes before Matplotlib.
    from training import matplotlib_folder  # noqa: F401, I001, PLC0415
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"svg.hashsalt": "ride", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            experts = [point.mean_experts for point in curve.points]
            accuracy = [100 * point.accuracy for point in curve.points]
            axes.plot(experts, accuracy, label=curve.name, linewidth=1.2)
        axes.axhline(100 * all_experts, color="grey", linestyle=":", label="all experts")
        axes.set(xlabel="mean experts", ylabel="top-1 accuracy, %")
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
