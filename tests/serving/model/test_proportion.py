"""Intervals of shares and means: published figures, and that they hold their confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model.proportion import Mean, Proportion


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones(count: int, of: int, low: float, high: float) -> None:
    """R. G. Newcombe, Two-sided confidence intervals for the single proportion (1998), table I."""
    found = Proportion.estimate(count, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.5, 0.9999))
def test_the_share_lies_in_its_interval_and_that_between_0_and_1(
    count: int, more: int, confidence: float
) -> None:
    found = Proportion.estimate(count, count + more, confidence)
    if found.share is None:
        assert (found.of, found.low, found.high) == (0, 0, 1)
        return
    assert 0 <= found.low <= found.share <= found.high <= 1
    mirrored = Proportion.estimate(more, count + more, confidence)
    assert math.isclose(mirrored.low, 1 - found.high, abs_tol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_19_of_20_intervals_hold_the_truth(share: float) -> None:
    counts = np.random.default_rng(0).binomial(400, share, 2_000)
    found = [Proportion.estimate(int(count), 400) for count in counts]
    held = np.mean([each.low <= share <= each.high for each in found])
    assert 0.93 < held < 0.98


def test_means_hold_the_truth_as_often() -> None:
    values = np.random.default_rng(0).beta(0.3, 3, (1_000, 500))
    truth = 0.3 / 3.3
    found = [Mean.estimate(float(row.sum()), float((row**2).sum()), 500) for row in values]
    assert 0.92 < np.mean([each.low <= truth <= each.high for each in found]) < 0.98
    assert Mean.estimate(0.0, 0.0, 0) == Mean(0, None, 0.0, 1.0)
