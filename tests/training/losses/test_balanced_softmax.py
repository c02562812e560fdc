"""Prior adjustments and prefix corrections, by hand and against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.losses import formulas
from training.choices import BaseLoss
from training.config import LossConfig
from training.losses.balanced_softmax import (
    expert_adjustments,
    inverse_prior,
    prefix_corrections,
    prior_adjustments,
)
from training.losses.cross_entropy import cross_entropy_loss

COUNTS = torch.tensor(formulas.COUNTS)
LABELS = torch.tensor(formulas.LABELS)
LOG_PRIOR = np.log(np.array(formulas.COUNTS) / sum(formulas.COUNTS))
PER_EXPERT = st.lists(st.floats(-3, 3), min_size=1, max_size=6)


def test_the_rarest_class_gets_the_largest_inverse_prior() -> None:
    assert inverse_prior(torch.tensor([0.5, 0.0625, 0.125, 0.3125])).tolist() == [
        0.0625,
        0.5,
        0.3125,
        0.125,
    ]


def test_equally_common_classes_get_inverse_priors_in_their_own_order() -> None:
    assert inverse_prior(torch.tensor([1.0, 6.0, 1.0, 1.0])).tolist() == [6.0, 1.0, 1.0, 1.0]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
@settings(max_examples=50)
def test_inverse_priors_are_the_priors_in_reversed_order(counts: list[int]) -> None:
    prior = np.array(counts, dtype=np.float64)
    inverse = inverse_prior(torch.from_numpy(prior)).numpy()
    assert sorted(inverse) == sorted(prior)
    rarest_first = sorted(range(len(counts)), key=lambda c: (counts[c], c))
    assert [inverse[c] for c in rarest_first] == sorted(counts, reverse=True)


def test_balanced_softmax_divides_by_the_odds_of_the_classes() -> None:
    """Ren et al.: p_y = n_y exp(z_y) / sum_c n_c exp(z_c)."""
    logits = formulas.random_logits()[0]
    adjusted = logits + prior_adjustments(COUNTS, (1.0,), (0.0,), 1)[0]
    odds = np.exp(logits.numpy()) * np.array(formulas.COUNTS)
    chosen = odds[range(len(LABELS)), formulas.LABELS] / odds.sum(axis=1)
    loss = cross_entropy_loss(adjusted, LABELS)
    assert loss.item() == pytest.approx(-np.log(chosen).mean(), rel=1e-6)


def test_sade_and_balpoe_by_their_strengths() -> None:
    log_inverse = LOG_PRIOR[::-1]
    sade = prior_adjustments(COUNTS, (0.0, 1.0, 1.0), (0.0, 0.0, 2.0), 3)
    expected = np.stack([0 * LOG_PRIOR, LOG_PRIOR, LOG_PRIOR - 2 * log_inverse])
    np.testing.assert_allclose(sade.numpy(), expected, rtol=1e-6)
    balpoe = prior_adjustments(COUNTS, (0.0, 1.0, 2.0), (0.0,), 3)
    np.testing.assert_allclose(balpoe.numpy(), np.outer((0, 1, 2), LOG_PRIOR), rtol=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=50)
def test_equally_common_classes_leave_cross_entropy_as_it_is(
    strength: float, inverse: float, experts: int, seed: int
) -> None:
    equal = torch.full((formulas.CLASSES,), 7)
    adjustments = prior_adjustments(equal, (strength,), (inverse,), experts)
    assert adjustments.shape == (experts, formulas.CLASSES)
    logits = formulas.random_logits(seed=seed)[0]
    torch.testing.assert_close(
        cross_entropy_loss(logits + adjustments[-1], LABELS), cross_entropy_loss(logits, LABELS)
    )


@pytest.mark.parametrize(
    ("base", "strengths", "expected"),
    [
        (BaseLoss.BALANCED_SOFTMAX, (0.0,), (1.0, 1.0, 1.0)),
        (BaseLoss.BALANCED_SOFTMAX, (0.0, 1.0, 2.0), (0.0, 1.0, 2.0)),
        (BaseLoss.CROSS_ENTROPY, (0.0,), (0.0, 0.0, 0.0)),
        (BaseLoss.LDAM, (0.5,), (0.5, 0.5, 0.5)),
    ],
)
def test_balanced_softmax_has_strength_1_unless_told_otherwise(
    base: BaseLoss, strengths: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    config = LossConfig(base=base, prior_strengths=strengths)
    adjustments = expert_adjustments(config, COUNTS, 3)
    np.testing.assert_allclose(adjustments.numpy(), np.outer(expected, LOG_PRIOR), rtol=1e-6)


@given(PER_EXPERT)
@settings(max_examples=30)
def test_corrections_make_every_prefix_as_biased_as_all_experts(strengths: list[float]) -> None:
    """Experts that have learnt perfectly, z_e = log p - a_e, then answer the same at every exit."""
    adjustments = prior_adjustments(COUNTS, tuple(strengths), (0.0,), len(strengths))
    learnt = np.log([0.4, 0.1, 0.2, 0.3]) - adjustments.double().numpy()
    corrections = prefix_corrections(adjustments).numpy()
    for k in range(1, len(strengths) + 1):
        prefix = learnt[:k].mean(axis=0) + corrections[k - 1]
        np.testing.assert_allclose(prefix, learnt.mean(axis=0), atol=1e-5)
    assert not corrections[-1].any()


@given(st.floats(-3, 3), st.integers(1, 6))
@settings(max_examples=50)
def test_experts_with_the_same_adjustment_need_no_correction(strength: float, experts: int) -> None:
    adjustments = prior_adjustments(COUNTS, (strength,), (0.3,), experts)
    assert not prefix_corrections(adjustments).any()


def test_a_first_expert_without_adjustment_is_turned_towards_rare_classes() -> None:
    """BalPoE's mean strength is 1: (tau_k - 1) * log prior, tau_k = 0, 1/2, 1."""
    corrections = prefix_corrections(prior_adjustments(COUNTS, (0.0, 1.0, 2.0), (0.0,), 3))
    np.testing.assert_allclose(
        corrections.numpy(), np.outer((-1, -0.5, 0), LOG_PRIOR), rtol=1e-6, atol=1e-7
    )
    assert corrections[0].argmax() == np.argmin(formulas.COUNTS)
