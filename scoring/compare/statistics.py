"""The statistics of a comparison: pure functions of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.model.proportion import Proportion

BINS = 10_000
"""Of histograms over 0 to 1: what is read off them is exact to 0.0001."""

_STEPS = 10
BinCounts = NDArray[np.int64]


def histogram(values: NDArray[np.float32]) -> BinCounts:
    """How many of some values from 0 to 1 lie in each of the `BINS` bins."""
    bins = (np.nan_to_num(values.astype(np.float64)) * BINS).astype(np.int64)
    return np.bincount(bins.clip(0, BINS - 1), minlength=BINS)


def bin_quantile(counts: BinCounts, share: float) -> float | None:
    """The lower end of the bin that holds this quantile; None of nothing."""
    total = int(counts.sum())
    if not total:
        return None
    return int(np.searchsorted(counts.cumsum(), max(1, math.ceil(share * total)))) / BINS


@dataclass(frozen=True)
class DistributionShift:
    """How far two distributions are apart.

    Attributes:
        total_variation: half the sum of the differences of shares; 0 for equal ones, at most 1.
        stability_index: population stability index, the sum of (b - a) ln(b / a): by custom, below
            0.1 is little, above 0.25 much (Siddiqi, "Credit Risk Scorecards", 2006).
    """

    total_variation: float
    stability_index: float


def distribution_shift(a: BinCounts, b: BinCounts) -> DistributionShift | None:
    """Of two histograms, over the deciles of `a`; None of nothing.

    Half an image is added to each decile, so that an empty one does not make the index infinite.
    """
    total = a.sum()
    if not total or not b.sum():
        return None
    decile = np.minimum(_STEPS - 1, (a.cumsum() - a) * _STEPS // total)
    shares = []
    for counts in (a, b):
        of_decile = np.bincount(decile, weights=counts, minlength=_STEPS)
        shares.append((of_decile + 0.5) / (counts.sum() + 0.5 * _STEPS))
    was, is_ = shares
    return DistributionShift(
        total_variation=float(np.abs(is_ - was).sum() / 2),
        stability_index=float(((is_ - was) * np.log(is_ / was)).sum()),
    )


@dataclass(frozen=True)
class ContingencyTable:
    """Images by who answers them right: both runs, one of them, or neither."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.only_a + self.only_b + self.neither

    def __add__(self, other: ContingencyTable) -> ContingencyTable:
        return ContingencyTable(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test (Psychometrika 12, 1947).

        How probable it is, if neither run is better, that the images that one run alone answers
        right are divided at least as unevenly.
        """
        n, k = self.only_a + self.only_b, min(self.only_a, self.only_b)
        term = math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        )
        total = 0.0
        while term > total * 1e-16:  # from the largest term of the tail down
            total += term
            term *= k / (n - k + 1)
            k -= 1
        return min(1.0, 2 * total)

    def difference(self) -> tuple[float, float, float]:
        """Accuracy of b minus that of a, and the ends of its 95 % interval.

        Wilson intervals, put together as images are the same in both runs: R. G. Newcombe, Improved
        confidence intervals for the difference between binomial proportions based on paired data,
        Statistics in Medicine 17 (1998).
        """
        n = self.images
        was = Proportion.estimate(self.both + self.only_a, n)
        is_ = Proportion.estimate(self.both + self.only_b, n)
        difference = (self.only_b - self.only_a) / n

        def reach(one: float, other: float) -> float:
            return math.sqrt(max(0.0, one**2 - 2 * self._correlation * one * other + other**2))

        share_a, share_b = (self.both + self.only_a) / n, (self.both + self.only_b) / n
        low = difference - reach(share_b - is_.low, was.high - share_a)
        high = difference + reach(is_.high - share_b, share_a - was.low)
        return difference, low, high

    @property
    def _correlation(self) -> float:
        rows = (self.both + self.only_a) * (self.only_b + self.neither)
        columns = (self.both + self.only_b) * (self.only_a + self.neither)
        if not rows * columns:
            return 0.0
        found = self.both * self.neither - self.only_a * self.only_b
        return found / math.sqrt(rows * columns)
