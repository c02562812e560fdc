"""LDAM's margins, weights and loss against their formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.losses import formulas
from training.losses.cross_entropy import cross_entropy_loss
from training.losses.ldam import effective_number_weights, ldam_loss, ldam_margins

COUNTS = torch.tensor(formulas.COUNTS)
LABELS = torch.tensor(formulas.LABELS)
MARGINS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.7, 1.0, 1.8], dtype=torch.float64)
SCALE = 30.0


def test_margins_grow_towards_rare_classes_up_to_the_largest() -> None:
    margins = ldam_margins(COUNTS, 0.5)
    assert margins.tolist() == pytest.approx(formulas.margins(0.5), rel=1e-6)
    assert margins[-1] == 0.5


@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_class_weights_follow_the_effective_number_and_sum_to_the_classes(beta: float) -> None:
    weights = effective_number_weights(COUNTS, beta)
    assert weights.tolist() == pytest.approx(formulas.effective_number_weights(beta), rel=1e-5)
    assert weights.sum().item() == pytest.approx(formulas.CLASSES)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_it_is_cross_entropy_with_a_margin_on_the_label(weights: torch.Tensor | None) -> None:
    logits = formulas.random_logits()[0]
    used = [1.0] * formulas.CLASSES if weights is None else weights.tolist()
    shift = [SCALE * margin for margin in MARGINS.tolist()]
    expected = formulas.label_loss(logits.numpy(), shift=shift, weights=used)
    loss = ldam_loss(logits, LABELS, MARGINS, SCALE, weights)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_without_margins_it_is_cross_entropy(seed: int) -> None:
    logits, none = formulas.random_logits(seed=seed)[0], torch.zeros(formulas.CLASSES)
    expected = cross_entropy_loss(logits, LABELS, WEIGHTS)
    torch.testing.assert_close(ldam_loss(logits, LABELS, none, SCALE, WEIGHTS), expected)


def test_it_leaves_its_logits_as_they_were() -> None:
    logits = formulas.random_logits()[0]
    before = logits.clone()
    ldam_loss(logits, LABELS, MARGINS, SCALE)
    assert torch.equal(logits, before)


def test_its_gradient() -> None:
    logits = formulas.random_logits()[0].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: ldam_loss(z, LABELS, MARGINS, 2.0, WEIGHTS), (logits,)
    )
