"""When two responses are the same, when they are a tie, and when they differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.model.routing import Float
from verify.responses import Prediction, Rejection, Response
from verify.verdict import Criteria, Verdict, VerdictKind

NAN = float("nan")
CRITERIA = Criteria(thresholds=(0.5, 0.7), tolerance=1e-4)


def fp32(numbers: Sequence[float]) -> Float:
    return np.array(numbers, dtype=np.float32)


def answer(
    probabilities: list[float] | None = None,
    experts: int = 2,
    scores: tuple[float, float] = (0.6, 0.1),
) -> Prediction:
    return Prediction(fp32(probabilities or (0.2, 0.5, 0.3)), experts, fp32(scores))


USUAL = answer()


def verdict_of(other: Response, reference: Response = USUAL) -> Verdict:
    return CRITERIA.judge(reference, other)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=5),
    st.integers(1, 3),
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
)
def test_an_answer_is_the_same_as_itself(
    probabilities: list[float], experts: int, scores: tuple[float, float]
) -> None:
    one, other = answer(probabilities, experts, scores), answer(probabilities, experts, scores)
    assert verdict_of(one, other) == Verdict(
        VerdictKind.SAME, same_top_1=True, same_experts=True, probability_difference=0.0
    )


def test_small_differences_are_none() -> None:
    found = verdict_of(answer([0.20005, 0.49995, 0.3], scores=(0.6005, 0.1005)))
    assert found.kind is VerdictKind.SAME
    assert found.probability_difference == pytest.approx(5e-5, rel=1e-2)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (answer([0.2002, 0.4998, 0.3]), "probabilities differ by 0.0002"),
        (answer([NAN, 0.5, 0.3]), "probabilities are not numbers"),
        (answer(scores=(0.6, 0.102)), "scores of router 2 differ by 0.002"),
        (answer(scores=(float("inf"), 0.1)), "scores of router 1 differ by inf"),
        (answer(scores=(0.6, NAN)), "other routers were asked"),
        (answer(experts=0), "there are experts 1 to 3"),
        (answer(experts=4), "there are experts 1 to 3"),
        (answer(experts=1, scores=(0.6, NAN)), "router 1 scores 0.60000, its threshold is 0.50000"),
        (answer(experts=3), "router 2 scores 0.10000, its threshold is 0.70000"),
        (Rejection("too large"), "only one of them answers"),
    ],
)
def test_anything_else_is_a_difference(other: Response, why: str) -> None:
    found = verdict_of(other)
    assert (found.kind, found.why) == (VerdictKind.DIFFERENCE, why)


def test_what_only_the_other_engine_answers_is_a_difference() -> None:
    assert verdict_of(USUAL, Rejection("damaged")).kind is VerdictKind.DIFFERENCE
    assert verdict_of(Rejection("row 0 is damaged"), Rejection("damaged")).kind is VerdictKind.SAME


@pytest.mark.parametrize("score", [0.4995, 0.5005])
def test_other_experts_are_a_tie_where_their_router_was_undecided(score: float) -> None:
    stopped = answer([0.9, 0.05, 0.05], 1, (score, NAN))
    went_on = answer(experts=2, scores=(score, 0.1))
    for found in (verdict_of(stopped, went_on), verdict_of(went_on, stopped)):
        assert found.kind is VerdictKind.TIE
        assert not found.same_experts
        assert found.probability_difference is None


def test_a_tie_is_looked_for_at_the_router_where_the_two_parted() -> None:
    went_on = answer(experts=3, scores=(0.5005, 0.9))
    assert (
        verdict_of(answer(experts=2, scores=(0.5005, 0.9)), went_on).kind is VerdictKind.DIFFERENCE
    )
    assert verdict_of(answer(experts=1, scores=(0.5005, NAN)), went_on).kind is VerdictKind.TIE


def test_a_tie_excuses_no_other_score() -> None:
    reference = answer(experts=1, scores=(0.4995, NAN))
    assert (
        verdict_of(answer(scores=(0.9, 0.1)), reference).why == "scores of router 1 differ by 0.4"
    )


def test_another_top_1_is_a_tie_where_it_is_as_good_as_the_best() -> None:
    reference = answer([0.2, 0.40004, 0.4])
    found = verdict_of(answer([0.2, 0.4, 0.40004]), reference)
    assert found.kind is VerdictKind.TIE
    assert (found.same_top_1, found.same_experts) == (False, True)
    tolerant = Criteria(CRITERIA.thresholds, tolerance=0.01)
    lax = tolerant.judge(answer([0.2, 0.408, 0.392]), answer([0.2, 0.399, 0.401]))
    assert lax.kind is VerdictKind.DIFFERENCE
    assert "0.016 apart" in lax.why


def test_a_model_of_one_expert_has_no_routers() -> None:
    one = Prediction(fp32([0.4, 0.6]), 1, fp32([]))
    assert Criteria((), 1e-4).judge(one, one).kind is VerdictKind.SAME
