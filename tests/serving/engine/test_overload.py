"""Overload control: cheaper answers first, refusals last, and no swinging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.overload import Allowed, GearLadder, OverloadControl
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import latest_version
from serving.model.routing import RoutingRule

OBJECTIVE_S = 1.0


@pytest.fixture(scope="module")
def manifest(repository: Path) -> Manifest:
    return load_manifest(repository, latest_version(repository))


def test_a_short_wait_changes_nothing() -> None:
    control = OverloadControl(2, OBJECTIVE_S)
    for tick in range(100):
        load = control.observe(0.4, tick / 10)
        assert (load.level, load.refuse) == (0, False)


def test_from_six_tenths_of_the_objective_cost_goes_down_step_by_step() -> None:
    control = OverloadControl(3, OBJECTIVE_S)
    levels = [control.observe(0.7, tick / 10).level for tick in range(16)]
    assert levels == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]


def test_near_the_objective_it_takes_every_step_before_it_refuses_anybody() -> None:
    control = OverloadControl(3, OBJECTIVE_S)
    first, second = control.observe(0.9, 0.0), control.observe(0.9, 0.01)
    assert (first.level, first.refuse) == (3, False)
    assert (second.level, second.refuse) == (3, True)


def test_without_gears_it_can_only_refuse() -> None:
    load = OverloadControl(0, OBJECTIVE_S).observe(0.9, 0.0)
    assert (load.level, load.refuse) == (0, True)


def test_it_goes_back_up_only_after_a_long_calm() -> None:
    control = OverloadControl(2, OBJECTIVE_S)
    control.observe(0.9, 0.0)
    assert control.observe(0.05, 3.9).level == 2
    assert control.observe(0.5, 4.0).level == 2  # not calm
    assert control.observe(0.05, 7.9).level == 2
    assert control.observe(0.05, 8.0).level == 1
    assert control.observe(0.05, 11.9).level == 1
    assert control.observe(0.05, 12.0).level == 0


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.integers(0, 3))
def test_levels_stay_in_bounds_and_refusals_need_the_last_one(
    waits: list[float], highest: int
) -> None:
    control = OverloadControl(highest, OBJECTIVE_S)
    for tick, wait in enumerate(waits):
        load = control.observe(wait, tick / 3)
        assert 0 <= load.level <= highest
        assert not load.refuse or (load.level == highest and wait > 0.75 * OBJECTIVE_S)


def test_the_ladder_goes_down_the_gears_that_cost_less(manifest: Manifest) -> None:
    full = replace(manifest, thresholds=manifest.gears["full"].thresholds)
    assert GearLadder.of(full, "fast").thresholds == (
        manifest.gears["balanced"].thresholds,
        manifest.gears["fast"].thresholds,
    )
    assert GearLadder.of(full, "balanced").thresholds == (manifest.gears["balanced"].thresholds,)
    assert GearLadder.of(full, None).thresholds == ()
    assert GearLadder.of(replace(manifest, gears={}), "fast").thresholds == ()


def test_no_image_goes_further_at_a_level_than_without_it(manifest: Manifest) -> None:
    ladder = GearLadder.of(manifest, "fast")
    asked = RoutingRule((0.9, 0.1), 3)
    assert ladder.apply(asked, 0) == Allowed(asked, degraded=False)
    fast = manifest.gears["fast"].thresholds
    lowered = ladder.apply(asked, len(ladder.thresholds))
    assert lowered.degraded
    assert lowered.rule.thresholds == (max(0.9, fast[0]), max(0.1, fast[1]))
    assert lowered.rule.max_experts == 3


def test_a_request_that_is_cheap_already_is_answered_as_asked(manifest: Manifest) -> None:
    ladder = GearLadder.of(manifest, "fast")
    cheap = RoutingRule((0.0, 0.0), 1)
    assert ladder.apply(cheap, 1) == Allowed(cheap, degraded=False)
    fast = RoutingRule(manifest.gears["fast"].thresholds, 3)
    assert ladder.apply(fast, 1) == Allowed(fast, degraded=False)
