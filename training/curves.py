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
