"""What an engine says of one image: an answer, or that it takes no such image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from serving.model.routing import Float, Routed
from serving.tracing.terminal import escaped


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        probabilities: fp32 [C].
        experts_used: from 1 to K.
        router_scores: fp32 [K-1]; NaN where a router was not asked.
    """

    probabilities: Float
    experts_used: int
    router_scores: Float

    @property
    def top_1(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    def describe(self, class_names: Sequence[str]) -> str:
        """Class, probability, experts and scores, in words."""
        best, used = self.top_1, self.experts_used
        scores = [f"{score:.5f}" for score in self.router_scores if not np.isnan(score)]
        return (
            f"{escaped(class_names[best])} {self.probabilities[best]:.5f}, "
            f"{used} expert{'s' if used != 1 else ''}, scores {', '.join(scores) or 'none'}"
        )


@dataclass(frozen=True)
class Rejection:
    """An image that was not answered; `reason` can be printed."""

    reason: str

    def describe(self, _: Sequence[str]) -> str:
        """The same in words."""
        return f"refused: {self.reason}"


Response: TypeAlias = Prediction | Rejection


def predictions_of(routed: Routed) -> list[Prediction]:
    """Row by row."""
    rows = zip(
        routed.probabilities, routed.experts_used.tolist(), routed.router_scores, strict=True
    )
    return [Prediction(probabilities, used, scores) for probabilities, used, scores in rows]
