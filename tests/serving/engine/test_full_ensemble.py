"""What the full ensemble would have taken, from what stages take."""

from __future__ import annotations

import pytest

from serving.engine.full_ensemble import FullEnsembleEstimate
from serving.engine.stage_costs import StageCosts

COSTS = StageCosts((1, 4), ((0.002, 0.005), (0.001, 0.001), (0.001, 0.002)))
"""In stage 2 a batch of four takes no longer than one image."""


def test_batches_that_take_what_they_cost_are_charged_all_stages_at_their_size() -> None:
    estimate = FullEnsembleEstimate(COSTS)
    assert estimate.observe(1, 1, 0.002) == pytest.approx(0.004)
    assert estimate.observe(1, 4, 0.005) == pytest.approx(0.008)
    assert estimate.observe(2, 4, 0.001) == 0


def test_small_batches_that_save_no_time_are_seen_to() -> None:
    """Of four images one goes on, and a single image takes as long as all four would have."""
    estimate = FullEnsembleEstimate(COSTS)
    full = estimate.observe(1, 4, 0.005)
    spent = 0.005 + 0.001 + 0.001  # the image takes all stages
    assert full - spent == pytest.approx(0.001)  # saved in stage 3 alone


def test_a_machine_that_is_slow_for_all_slows_the_estimate_alike() -> None:
    estimate = FullEnsembleEstimate(COSTS)
    for _ in range(500):
        slow = estimate.observe(1, 4, 0.05)
        estimate.observe(2, 4, 0.01)
        estimate.observe(3, 4, 0.02)
    assert slow == pytest.approx(0.08)


def test_what_was_measured_badly_at_the_start_is_mended() -> None:
    estimate = FullEnsembleEstimate(COSTS)
    for _ in range(500):
        estimate.observe(2, 1, 0.0005)  # half of what it cost at the start
    assert estimate.observe(1, 1, 0.002) == pytest.approx(0.0035, rel=1e-3)
