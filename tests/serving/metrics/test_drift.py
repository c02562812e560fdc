"""The watch over shares that go on: no false alarms, no change that goes unseen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.engine.graphs import Engine
from serving.metrics import drift
from serving.metrics.drift import (
    BLOCK_IMAGES,
    TOLERANCE,
    DriftWatch,
    GoOn,
    expected_go_on,
    go_on_counts,
)
from serving.model.manifest import Stops

EXPECTED = [GoOn(6_000, 10_000), GoOn(1_500, 6_000)]


def stream(first: float, second: float, images: int, seed: int) -> NDArray[np.int32]:
    """Experts that images take, [images], when these shares go on."""
    generator = np.random.default_rng(seed)
    on = generator.random((2, images)) < [[first], [second]]
    experts_used: NDArray[np.int32] = (1 + on[0] + (on[0] & on[1])).astype(np.int32)
    return experts_used


def alarm_after(watch: DriftWatch, experts_used: NDArray[np.int32], request: int = 50) -> float:
    """Images until the first alarm; infinity if there is none."""
    for start in range(0, len(experts_used), request):
        watch.observe(experts_used[start : start + request])
        if any(stage.detected for stage in watch.stages()):
            return start + request
    return math.inf


@given(st.lists(st.integers(1, 4), max_size=300))
def test_counts_are_those_of_the_images(experts_used: list[int]) -> None:
    stopped = np.bincount(experts_used, minlength=5)[1:].tolist()
    for stage, found in enumerate(go_on_counts(stopped), 1):
        assert found.reached == sum(used >= stage for used in experts_used)
        assert found.on == sum(used > stage for used in experts_used)


@pytest.mark.parametrize("seed", range(5))
def test_images_like_those_measured_raise_no_alarm(seed: int) -> None:
    watch = DriftWatch(EXPECTED, 3)
    assert alarm_after(watch, stream(0.6, 0.25, 40_000, seed), request=500) == math.inf


@pytest.mark.parametrize(
    ("first", "second", "stage"),
    [(0.72, 0.25, 1), (0.48, 0.25, 1), (0.6, 0.37, 2), (0.6, 0.13, 2), (1.0, 0.25, 1)],
)
def test_a_change_is_found_and_its_end_too(first: float, second: float, stage: int) -> None:
    watch = DriftWatch(EXPECTED, 3)
    watch.observe(stream(0.6, 0.25, 20_000, 0))
    assert alarm_after(watch, stream(first, second, 10_000, 1)) < 6_000
    detected = [each.stage for each in watch.stages() if each.detected]
    assert detected == [stage]
    watch.observe(stream(first, second, 200_000, 2))
    for part in np.split(stream(0.6, 0.25, 40_000, 3), 400):
        watch.observe(part)
    assert not any(each.detected for each in watch.stages())


def alarms(cusum: drift._Cusum, hit: bool, h: float) -> bool:
    """Whether this image is the one that raises the alarm."""
    cusum.observe(int(hit), int(not hit))
    return cusum.sum >= h


def test_false_alarms_are_as_rare_as_promised_at_the_very_edge_of_the_tolerance() -> None:
    """The worst case that is no drift: exp(h) images between false alarms, with a small h."""
    h, limit = math.log(100.0), 0.6
    generator = np.random.default_rng(0)
    waits = []
    for _ in range(100):
        cusum = drift._Cusum(limit, most=2 * h)
        hits = (generator.random(5_000) < limit).tolist()
        waits.append(next((i for i, hit in enumerate(hits, 1) if alarms(cusum, hit, h)), 5_000))
    assert np.mean(waits) > 100


def test_the_window_holds_the_newest_images() -> None:
    watch = DriftWatch(EXPECTED, 3)
    watch.observe(np.full(BLOCK_IMAGES, 3, dtype=np.int32))
    for _ in range(drift.WINDOW_BLOCKS):
        watch.observe(np.full(BLOCK_IMAGES, 1, dtype=np.int32))
    watch.observe(np.full(7, 2, dtype=np.int32))
    observed = watch.stages()[0].observed
    assert (observed.count, observed.of) == (7, drift.WINDOW_BLOCKS * BLOCK_IMAGES + 7)


def test_without_measured_shares_nothing_is_ever_detected() -> None:
    watch = DriftWatch([], 3)
    assert alarm_after(watch, stream(1.0, 1.0, 5_000, 0)) == math.inf
    assert watch.stages()[0].expected is None
    assert watch.stages()[0].observed.share == 1


def test_a_share_near_1_can_only_fall() -> None:
    watch = DriftWatch([GoOn(1_000, 1_000)], 2)
    assert alarm_after(watch, np.full(10_000, 2, dtype=np.int32)) == math.inf
    fallen = stream(1 - 4 * TOLERANCE, 0.0, 10_000, 0)
    assert alarm_after(watch, fallen) < math.inf


def test_the_bundled_model_says_what_to_expect(engine: Engine) -> None:
    manifest = engine.manifest
    stopped = manifest.evaluation["routed"]["stopped_after"]
    first, second = expected_go_on(manifest)
    assert first.on / first.reached == pytest.approx(1 - stopped[0])
    assert second.on / second.reached == pytest.approx(stopped[2] / (1 - stopped[0]))
    other = dataclasses.replace(manifest, thresholds=(0.5, 0.5))
    assert expected_go_on(other) == []
    told = dataclasses.replace(other, stops=Stops(200, (0.5, 0.25, 0.25)))
    assert expected_go_on(told) == [GoOn(100, 200), GoOn(50, 100)]
