"""How often something happened, and how well that is known. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Proportion:
    """So many of so many, with Wilson's confidence interval.

    Attributes:
        count: how often it happened.
        of: how often it could have.
        share: the one over the other; None of none.
        low, high: the interval, within [0, 1]; all of it where `of` is 0.
    """

    count: int
    of: int
    share: float | None
    low: float
    high: float

    @classmethod
    def estimate(cls, count: int, of: int, confidence: float = CONFIDENCE) -> Proportion:
        """Of independent trials: E. B. Wilson, Probable Inference, the Law of Succession, and
        Statistical Inference, JASA 22 (1927). Unlike the textbook's interval it holds its
        confidence where nearly all or nearly none are counted.
        """
        if not of:
            return cls(count, of, None, 0.0, 1.0)
        share = count / of
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        centre = share + z * z / (2 * of)
        reach = z * math.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
        shrink = 1 + z * z / of
        # Rounding must not push an end past what was seen.
        low = max(0.0, min(share, (centre - reach) / shrink))
        high = min(1.0, max(share, (centre + reach) / shrink))
        return cls(count, of, share, low, high)


@dataclass(frozen=True)
class Mean:
    """A mean of `of` independent values in [0, 1], with its confidence interval; None of none."""

    of: int
    mean: float | None
    low: float
    high: float

    @classmethod
    def estimate(
        cls, total: float, squares: float, of: int, confidence: float = CONFIDENCE
    ) -> Mean:
        """From the sum of the values and of their squares, by the normal approximation."""
        if of < 2:
            return cls(of, total if of else None, 0.0, 1.0)
        mean = total / of
        variance = max(0.0, squares / of - mean * mean) * of / (of - 1)
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance / of)
        return cls(of, mean, max(0.0, mean - reach), min(1.0, mean + reach))
