"""The routing algorithm against a loop over single rows, on rows of every kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.model.routing import (
    Float,
    Routed,
    RoutingRule,
    RoutingState,
    StageCall,
    StageOutput,
    route,
    route_rows,
    softmax,
)

THRESHOLDS = (0.0, 0.25, 0.5, 0.7, 1.0)
SCORES = (*THRESHOLDS, 1e-7, 0.1, 0.6, 0.9, float("nan"))


@dataclass
class Ensemble:
    """Stages as tables: what they say of a row depends on that row alone.

    logits [K, N, C], scores [K-1, N]. `asked` notes which stages ran on a row.
    """

    logits: Float
    scores: Float
    asked: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def route(self, rows: NDArray[np.intp], rule: RoutingRule) -> Routed:
        """Route a batch made of some of the rows."""
        return route(len(rows), self.logits.shape[2], rule, lambda call: self.run_stage(call, rows))

    def run_stage(self, call: StageCall, rows: NDArray[np.intp]) -> StageOutput:
        """Answer a call about a batch made of these rows."""
        i, asked = call.stage - 1, rows[call.rows]
        for row, prefix_sum in zip(asked.tolist(), call.prefix_sum, strict=True):
            self.asked[row].append(call.stage)
            assert prefix_sum.tobytes() == self.prefix_sum(row, i).tobytes()
        last = call.stage == len(self.logits)
        return StageOutput(self.logits[i, asked], None if last else self.scores[i, asked])

    def prefix_sum(self, row: int, experts: int) -> Float:
        """Logits of experts 1..`experts` on one row, added up in that order."""
        total = np.zeros(self.logits.shape[2], dtype=np.float32)
        for expert in range(experts):
            total = total + self.logits[expert, row]
        return total

    def prefix(self, row: int, experts: int, rule: RoutingRule) -> Float:
        """Mean logits of experts 1..`experts` on one row, corrected."""
        mean: Float = self.prefix_sum(row, experts) / np.float32(experts)
        return mean if rule.corrections is None else mean + rule.corrections[experts - 1]

    def experts_of(self, row: int, rule: RoutingRule) -> int:
        """The definition: on to expert i + 1 where score i is above threshold i, i < most."""
        expert = 1
        while expert < rule.max_experts:
            if not self.scores[expert - 1, row] > np.float32(rule.thresholds[expert - 1]):
                break
            expert += 1
        return expert


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    experts = draw(st.integers(1, 5))
    rows, classes = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 7, 100, 301]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.01, 1.0, 30.0, 1000.0]))
    column = st.lists(st.sampled_from(SCORES), min_size=rows, max_size=rows)
    scores = [draw(column) for _ in range(experts - 1)]
    return Ensemble(
        (generator.standard_normal((experts, rows, classes)) * scale).astype(np.float32),
        np.array(scores, dtype=np.float32).reshape(experts - 1, rows),
    )


@st.composite
def ensembles_and_rules(draw: st.DrawFn) -> tuple[Ensemble, RoutingRule]:
    ensemble = draw(ensembles())
    experts, _, classes = ensemble.logits.shape
    thresholds = tuple(draw(st.sampled_from(THRESHOLDS)) for _ in range(experts - 1))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    corrections = generator.standard_normal((experts, classes)).astype(np.float32)
    rule = RoutingRule(
        thresholds, draw(st.integers(1, experts)), corrections if draw(st.booleans()) else None
    )
    return ensemble, rule


def every_row(ensemble: Ensemble) -> NDArray[np.intp]:
    return np.arange(ensemble.logits.shape[1])


def answers(routed: Routed) -> list[bytes]:
    """A row's answer, bit for bit; a NaN score too."""
    columns = (routed.probabilities, routed.experts_used, routed.router_scores)
    return [b"|".join(column[row].tobytes() for column in columns) for row in range(len(routed))]


@given(ensembles_and_rules(), st.data())
def test_an_answer_does_not_depend_on_the_batch(
    case: tuple[Ensemble, RoutingRule], data: st.DataObject
) -> None:
    ensemble, rule = case
    rows = every_row(ensemble)
    together = answers(ensemble.route(rows, rule))
    alone = [answers(ensemble.route(rows[[row]], rule))[0] for row in rows]
    assert alone == together
    some = np.array(data.draw(st.lists(st.sampled_from(rows.tolist()), max_size=30)), dtype=np.intp)
    assert answers(ensemble.route(some, rule)) == [together[row] for row in some]


@given(ensembles_and_rules(), st.data())
def test_permuting_rows_permutes_answers(
    case: tuple[Ensemble, RoutingRule], data: st.DataObject
) -> None:
    ensemble, rule = case
    rows = every_row(ensemble)
    order = np.array(data.draw(st.permutations(rows.tolist())), dtype=np.intp)
    straight = answers(ensemble.route(rows, rule))
    assert answers(ensemble.route(order, rule)) == [straight[row] for row in order]


@given(ensembles_and_rules())
def test_no_row_skips_a_stage_and_none_is_asked_twice(
    case: tuple[Ensemble, RoutingRule],
) -> None:
    ensemble, rule = case
    routed = ensemble.route(every_row(ensemble), rule)
    for row, used in enumerate(routed.experts_used):
        assert ensemble.asked[row] == list(range(1, used + 1))


@given(ensembles_and_rules())
def test_a_row_goes_on_exactly_where_the_definition_says(
    case: tuple[Ensemble, RoutingRule],
) -> None:
    ensemble, rule = case
    routed = ensemble.route(every_row(ensemble), rule)
    for row, used in enumerate(routed.experts_used):
        assert used == ensemble.experts_of(row, rule)
        asked = used if used < rule.max_experts else used - 1
        scores = routed.router_scores[row]
        assert scores[:asked].tobytes() == ensemble.scores[:asked, row].tobytes()
        assert np.isnan(scores[asked:]).all()


@given(ensembles_and_rules())
def test_the_answer_is_the_softmax_of_the_last_corrected_prefix(
    case: tuple[Ensemble, RoutingRule],
) -> None:
    ensemble, rule = case
    routed = ensemble.route(every_row(ensemble), rule)
    np.testing.assert_allclose(routed.probabilities.sum(axis=1), 1, rtol=1e-5)
    for row, used in enumerate(routed.experts_used):
        logits = ensemble.prefix(row, int(used), rule).astype(np.float64)
        powers = np.exp(logits - logits.max())
        np.testing.assert_allclose(routed.probabilities[row], powers / powers.sum(), atol=1e-6)


def test_a_score_that_is_not_a_number_stops_a_row() -> None:
    ensemble = Ensemble(
        np.ones((3, 2, 4), dtype=np.float32),
        np.array([[np.nan, 0.9], [0.9, np.nan]], dtype=np.float32),
    )
    routed = ensemble.route(np.arange(2), RoutingRule((0.0, 0.0), 3))
    assert routed.experts_used.tolist() == [1, 2]


def test_a_score_equal_to_the_threshold_stops_a_row() -> None:
    ensemble = Ensemble(
        np.ones((2, 3, 4), dtype=np.float32),
        np.array([[0.7, np.nextafter(np.float32(0.7), np.float32(1)), 0.0]], dtype=np.float32),
    )
    assert ensemble.route(np.arange(3), RoutingRule((0.7,), 2)).experts_used.tolist() == [1, 2, 1]
    assert ensemble.route(np.arange(3), RoutingRule((0.0,), 2)).experts_used.tolist() == [2, 2, 1]
    assert ensemble.route(np.arange(3), RoutingRule((1.0,), 2)).experts_used.tolist() == [1, 1, 1]


@given(ensembles())
def test_one_expert_at_most_keeps_no_score(ensemble: Ensemble) -> None:
    experts = len(ensemble.logits)
    routed = ensemble.route(every_row(ensemble), RoutingRule((0.0,) * (experts - 1), 1))
    assert set(routed.experts_used.tolist()) == {1}
    assert {stage for row in ensemble.asked.values() for stage in row} == {1}
    assert routed.router_scores.shape == (len(routed), experts - 1)
    assert np.isnan(routed.router_scores).all()


def test_a_single_expert_has_no_router_scores() -> None:
    ensemble = Ensemble(
        np.ones((1, 3, 4), dtype=np.float32),
        np.empty((0, 3), dtype=np.float32),
    )
    routed = ensemble.route(np.arange(3), RoutingRule((), 1))
    assert routed.experts_used.tolist() == [1, 1, 1]
    assert routed.router_scores.shape == (3, 0)
    np.testing.assert_allclose(routed.probabilities, 0.25)


def test_an_empty_batch_asks_for_nothing() -> None:
    ensemble = Ensemble(
        np.ones((2, 1, 4), dtype=np.float32),
        np.ones((1, 1), dtype=np.float32),
    )
    routed = ensemble.route(np.empty(0, dtype=np.intp), RoutingRule((0.5,), 2))
    assert len(routed) == 0
    assert routed.probabilities.shape == (0, 4)
    assert routed.router_scores.shape == (0, 1)
    assert not ensemble.asked


def test_answers_have_the_types_that_are_served() -> None:
    ensemble = Ensemble(
        np.ones((2, 1, 4), dtype=np.float32),
        np.ones((1, 1), dtype=np.float32),
    )
    routed = ensemble.route(np.arange(1), RoutingRule((0.5,), 2))
    assert routed.probabilities.dtype == np.float32
    assert routed.experts_used.dtype == np.int32
    assert routed.router_scores.dtype == np.float32


def test_softmax_of_large_logits_stays_finite() -> None:
    logits = np.array([[1e30, 0.0], [-1e30, -1e30]], dtype=np.float32)
    assert softmax(logits).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("thresholds", "max_experts", "sentence"),
    [
        ((0.5, 1.5), 3, "threshold"),
        ((-0.1,), 2, "threshold"),
        ((float("nan"),), 2, "threshold"),
        ((0.5,), 0, "max_experts must lie between 1 and 2"),
        ((0.5,), 3, "max_experts must lie between 1 and 2"),
        ((), 2, "max_experts must lie between 1 and 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    thresholds: tuple[float, ...], max_experts: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        RoutingRule(thresholds, max_experts)


@given(ensembles(), st.data())
def test_rows_of_several_requests_can_meet_before_every_stage(
    ensemble: Ensemble, data: st.DataObject
) -> None:
    """Rows with rules of their own, advanced one stage at a time in batches of any make-up."""
    experts, count, classes = ensemble.logits.shape
    rules = [
        RoutingRule(
            tuple(data.draw(st.sampled_from(THRESHOLDS)) for _ in range(experts - 1)),
            data.draw(st.integers(1, experts)),
        )
        for _ in range(count)
    ]
    start = RoutingState.start(rules, experts, classes)
    waiting: list[list[tuple[int, RoutingState, int]]] = [[] for _ in range(experts + 1)]
    waiting[1] = [(row, start, row) for row in range(count)]
    answered: dict[int, bytes] = {}
    while any(waiting):
        stage = data.draw(st.sampled_from([i for i in range(experts + 1) if waiting[i]]))
        size = data.draw(st.integers(1, len(waiting[stage])))
        batch = data.draw(st.permutations(waiting[stage]))[:size]
        waiting[stage] = [row for row in waiting[stage] if row not in batch]
        state = RoutingState.gather([(state, place) for _, state, place in batch])
        names = np.array([row for row, _, _ in batch])
        call = state.call(stage, np.arange(size))
        on = state.advance(call, ensemble.run_stage(call, names))
        for place in on:
            waiting[stage + 1].append((int(names[place]), state, int(place)))
        done = np.setdiff1d(np.arange(size), on)
        for row, answer in zip(names[done], answers(state.answers(done)), strict=True):
            assert int(row) not in answered
            answered[int(row)] = answer
    for row, rule in enumerate(rules):
        assert answered[row] == answers(ensemble.route(np.array([row]), rule))[0]


@given(ensembles())
def test_the_full_ensembles_rule_takes_every_row_through_all_stages(ensemble: Ensemble) -> None:
    experts = len(ensemble.logits)
    scores = np.nan_to_num(ensemble.scores)
    every = Ensemble(ensemble.logits, scores)
    routed = every.route(every_row(every), RoutingRule.every_expert(experts))
    assert set(routed.experts_used.tolist()) == {experts}
    assert routed.router_scores.tobytes() == scores.T.tobytes()


def test_rows_that_are_not_wanted_any_more_are_asked_no_further() -> None:
    ensemble = Ensemble(
        np.ones((3, 4, 2), dtype=np.float32), np.full((2, 4), 0.9, dtype=np.float32)
    )
    rows, rule = every_row(ensemble), RoutingRule((0.5, 0.5), 3)
    state = RoutingState.start([rule] * 4, 3, 2)
    route_rows(state, lambda call: ensemble.run_stage(call, rows), lambda on: on[on != 1])
    assert ensemble.asked == {0: [1, 2, 3], 1: [1], 2: [1, 2, 3], 3: [1, 2, 3]}


def test_rules_are_equal_where_their_numbers_are() -> None:
    corrections = np.zeros((2, 3), dtype=np.float32)
    assert RoutingRule((0.5,), 2, corrections) == RoutingRule((0.5,), 2, corrections.copy())
    assert RoutingRule((0.5,), 2) != RoutingRule((0.5,), 1)
    assert RoutingRule((0.5,), 2) != RoutingRule((0.25,), 2)
