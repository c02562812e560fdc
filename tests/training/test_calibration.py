"""Thresholds for a budget: against trying every setting, and the routing itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.model.curves import Curve, CurvePoint
from serving.model.manifest import MultiplyAdds
from serving.model.routing import Float, RoutingRule
from serving.model.thresholds import MAX_CANDIDATES, Right, experts_used, frontier, measured
from training.calibration import (
    GEAR_DROPS,
    best_within,
    cheapest_reaching,
    class_balanced_weights,
    gears,
)
from training.errors import ConfigError
from training.evaluation import route_cached


def costs_of(experts: int) -> MultiplyAdds:
    return MultiplyAdds(1_000, (100,) * experts, (3,) * (experts - 1))


@st.composite
def cases(draw: st.DrawFn, most_experts: int = 4) -> tuple[Float, Right]:
    """Scores [K-1, N] with ties among them, and right [K, N]."""
    experts, images = draw(st.integers(1, most_experts)), draw(st.integers(1, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    levels = np.array([1e-7, 0.2, 0.25, 0.5, 0.9, 1.0], dtype=np.float32)
    return generator.choice(levels, (experts - 1, images)), generator.random(
        (experts, images)
    ) < 0.5


def by_routing(thresholds: tuple[float, ...], scores: Float, right: Right) -> tuple[float, float]:
    """Accuracy and mean experts when `serving.model.routing` routes: class 1 is right."""
    sums = (
        np.stack((1.0 - right, right * 1.0), axis=2) * np.arange(1, len(right) + 1)[:, None, None]
    )
    logits = np.diff(sums, axis=0, prepend=0.0).astype(np.float32)
    routed = route_cached(logits, scores, RoutingRule(thresholds, len(right)))
    answers = routed.probabilities.argmax(axis=1) == 1
    return float(answers.mean()), float(routed.experts_used.mean())


@given(cases())
@settings(max_examples=60)
def test_no_setting_of_the_thresholds_beats_the_frontier(case: tuple[Float, Right]) -> None:
    scores, right = case
    curve = frontier("any", scores, right, costs_of(len(right)))
    tried = [[0.0, *sorted(set(map(float, row))), 1.0] for row in scores]
    for thresholds in itertools.product(*tried):
        accuracy, experts = by_routing(thresholds, scores, right)
        assert best_within(curve, experts + 1e-9).accuracy >= accuracy - 1e-9


@given(cases(most_experts=6))
@settings(max_examples=60)
def test_every_point_is_what_the_routing_does_with_its_thresholds(
    case: tuple[Float, Right],
) -> None:
    scores, right = case
    for point in frontier("any", scores, right, costs_of(len(right))).points:
        accuracy, experts = by_routing(point.thresholds, scores, right)
        assert point.accuracy == pytest.approx(accuracy)
        assert point.mean_experts == pytest.approx(experts)
        again = measured(point.thresholds, scores, right, costs_of(len(right)))
        assert again.thresholds == point.thresholds
        assert again.accuracy == pytest.approx(accuracy)
        assert again.mean_experts == pytest.approx(experts)
        assert again.mean_multiply_adds == pytest.approx(point.mean_multiply_adds)


@given(cases(most_experts=6), st.integers(0, 99))
@settings(max_examples=60)
def test_along_the_frontier_accuracy_and_cost_rise(case: tuple[Float, Right], seed: int) -> None:
    scores, right = case
    weights = np.random.default_rng(seed).integers(1, 5, right.shape[1]).astype(float)
    points = frontier("any", scores, right, costs_of(len(right)), weights).points
    for left, following in itertools.pairwise(points):
        assert left.accuracy < following.accuracy
        assert left.mean_experts < following.mean_experts


@given(cases(most_experts=6), st.floats(1, 6))
@settings(max_examples=60)
def test_a_budget_is_never_exceeded(case: tuple[Float, Right], budget: float) -> None:
    scores, right = case
    point = best_within(frontier("any", scores, right, costs_of(len(right))), budget)
    assert experts_used(point.thresholds, scores).mean() <= budget


def test_weights_count_as_so_many_images() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random((2, 12), dtype=np.float32)
    right = generator.random((3, 12)) < 0.5
    times = generator.integers(1, 4, 12)
    weighted = frontier("any", scores, right, costs_of(3), times.astype(float))
    for point in weighted.points:
        repeated = measured(
            point.thresholds, scores.repeat(times, 1), right.repeat(times, 1), costs_of(3)
        )
        assert point.accuracy == pytest.approx(repeated.accuracy)
        assert point.mean_experts == pytest.approx(repeated.mean_experts)
        assert point.mean_multiply_adds == pytest.approx(repeated.mean_multiply_adds)


def test_thresholds_are_chosen_together() -> None:
    """Alone, either router sends nobody on: only the third expert is right, and only for two."""
    scores = np.array([[0.9, 0.9, 0.1], [0.8, 0.8, 0.2]], dtype=np.float32)
    right = np.array([[0, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=bool)
    best = frontier("any", scores, right, costs_of(3)).points[-1]
    assert best.accuracy == 1.0
    assert best.mean_experts == pytest.approx(7 / 3)
    assert experts_used(best.thresholds, scores).tolist() == [3, 3, 1]


def test_an_image_pays_for_the_routers_that_it_asked() -> None:
    scores = np.array([[0.9, 0.1]], dtype=np.float32)
    right = np.array([[True, True], [True, True]])
    point = measured((0.5,), scores, right, MultiplyAdds(1_000, (100, 200), (7,)))
    assert point.mean_multiply_adds == (1_000 + 100 + 7) + 200 / 2


@pytest.mark.parametrize("experts", [2, 3, 4, 5, 6])
def test_the_grid_is_coarse_and_the_answer_quick(experts: int) -> None:
    generator = np.random.default_rng(0)
    scores = generator.random((experts - 1, 3_000), dtype=np.float32)
    right = generator.random((experts, 3_000)) < np.linspace(0.4, 0.6, experts)[:, None]
    points = frontier("any", scores, right, costs_of(experts)).points
    for i in range(experts - 1):
        assert len({point.thresholds[i] for point in points}) <= MAX_CANDIDATES
    assert points == frontier("any", scores, right, costs_of(experts)).points


def test_a_single_expert_has_one_point() -> None:
    curve = frontier("any", np.empty((0, 4), np.float32), np.ones((1, 4), bool), costs_of(1))
    assert curve.points == (CurvePoint((), 1.0, 1.0, 1_100.0),)
    assert gears(curve, 1.0) == {"fast": (), "balanced": (), "full": ()}


CURVE = Curve(
    "margin",
    (
        CurvePoint((1.0, 1.0), 0.500, 1.0, 1.0),
        CurvePoint((0.6, 0.5), 0.585, 1.4, 1.4),
        CurvePoint((0.4, 0.5), 0.598, 1.9, 1.9),
        CurvePoint((0.1, 0.1), 0.601, 2.6, 2.6),
    ),
)


def test_choices_along_a_curve() -> None:
    assert best_within(CURVE, 1.0) == CURVE.points[0]
    assert best_within(CURVE, 1.89) == CURVE.points[1]
    assert best_within(CURVE, 9.0) == CURVE.points[3]
    assert cheapest_reaching(CURVE, 0.0) == CURVE.points[0]
    assert cheapest_reaching(CURVE, 0.585) == CURVE.points[1]
    assert cheapest_reaching(CURVE, 0.6) == CURVE.points[3]


def test_what_can_not_be_chosen_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a mean of 0\.9 can't be"):
        best_within(CURVE, 0.9)
    with pytest.raises(ConfigError, match=r"no thresholds of margin reach .* 70\.00 %.* 60\.10 %"):
        cheapest_reaching(CURVE, 0.7)


def test_gears_lose_no_more_than_they_say() -> None:
    assert GEAR_DROPS == {"fast": 0.02, "balanced": 0.003}
    assert gears(CURVE, 0.600) == {
        "fast": (0.6, 0.5),
        "balanced": (0.4, 0.5),
        "full": (0.0, 0.0),
    }


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_balanced_weights_give_every_class_the_same(labels: list[int]) -> None:
    weights = class_balanced_weights(np.array(labels))
    sums = [weights[np.array(labels) == label].sum() for label in set(labels)]
    assert sums == pytest.approx([len(labels) / len(sums)] * len(sums))
