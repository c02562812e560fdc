"""The statistics of comparisons against their definitions, and against chance itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scoring.compare.statistics import ContingencyTable, bin_quantile, distribution_shift, histogram

shares = arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32))


@given(shares, st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_quantiles_are_exact_to_a_bin(
    values: np.ndarray[tuple[int], np.dtype[np.float32]], share: float
) -> None:
    found = bin_quantile(histogram(values), share)
    assert found is not None
    exact = np.quantile(values, share, method="inverted_cdf")
    assert exact - 1.01e-4 <= found <= exact + 1e-6


def test_nothing_has_no_quantile_and_no_shift() -> None:
    nothing = histogram(np.array([], dtype=np.float32))
    assert bin_quantile(nothing, 0.5) is None
    assert distribution_shift(nothing, nothing) is None


@given(shares)
def test_a_distribution_is_not_apart_from_itself(
    values: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    same = distribution_shift(histogram(values), histogram(values))
    assert same is not None
    assert (same.total_variation, same.stability_index) == (0, 0)


def test_the_shift_of_two_known_distributions() -> None:
    """Deciles of 0 to 1 hold a tenth each; all of B lies in the upper five."""
    even = (np.arange(10_000) / 10_000).astype(np.float32)
    upper = (0.5 + np.arange(10_000) / 20_000).astype(np.float32)
    found = distribution_shift(histogram(even), histogram(upper))
    assert found is not None
    assert found.total_variation == pytest.approx(0.5, abs=1e-3)
    low, high = 0.5 / 10_005, 2000.5 / 10_005
    expected = 5 * ((low - 0.1) * math.log(low / 0.1) + (high - 0.1) * math.log(high / 0.1))
    assert found.stability_index == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"), [(0, 0, 1), (3, 3, 1), (1, 5, 0.21875), (10, 2, 0.03857421875)]
)
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int, p: float) -> None:
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    found = ContingencyTable(7, only_a, only_b, 1).p_value
    assert found == pytest.approx(min(1, 2 * tail))
    assert found == pytest.approx(p)


def test_mcnemar_of_many_images() -> None:
    """There the normal approximation is exact enough."""
    found = ContingencyTable(0, 500_000, 501_500, 0).p_value
    z = (1500 - 1) / math.sqrt(1_001_500)
    assert found == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(0), 0
    probabilities = [0.5, 0.05, 0.1, 0.35]
    for counts in generator.multinomial(150, probabilities, size=1000).tolist():
        _, low, high = ContingencyTable(*counts).difference()
        hits += low <= 0.05 <= high
    assert 0.93 <= hits / 1000 <= 0.97


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(sum))
def test_the_interval_turns_with_the_runs(counts: list[int]) -> None:
    both, only_a, only_b, neither = counts
    difference, low, high = ContingencyTable(*counts).difference()
    turned = ContingencyTable(both, only_b, only_a, neither).difference()
    assert turned == pytest.approx((-difference, -high, -low))
    assert -1 - 1e-9 <= low <= difference <= high <= 1 + 1e-9
