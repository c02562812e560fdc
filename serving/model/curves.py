"""Accuracy against compute: what a way of routing reaches at each mean cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """One setting of the thresholds, and what it gives on one set of images.

    `accuracy` is top-1 as a share; cost is the mean over images.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    mean_experts: float
    mean_multiply_adds: float


@dataclass(frozen=True)
class Curve:
    """The best points of one router, cheapest first."""

    name: str
    points: tuple[CurvePoint, ...]

    def best_within(self, mean_experts: float) -> CurvePoint | None:
        """The most accurate point that takes at most so many experts on average, if one does."""
        affordable = [point for point in self.points if point.mean_experts <= mean_experts]
        return affordable[-1] if affordable else None

    def cheapest_reaching(self, accuracy: float) -> CurvePoint | None:
        """The cheapest point of at least this accuracy, if the curve comes so high."""
        return next((point for point in self.points if point.accuracy >= accuracy), None)
