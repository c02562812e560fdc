"""Focal loss against its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.losses import formulas
from training.losses.cross_entropy import cross_entropy_loss
from training.losses.focal import focal_loss

LABELS = torch.tensor(formulas.LABELS)
WEIGHTS = torch.tensor([0.5, 0.7, 1.0, 1.8], dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_it_follows_the_formula(gamma: float, weights: torch.Tensor | None) -> None:
    logits = formulas.random_logits()[0]
    used = [1.0] * formulas.CLASSES if weights is None else weights.tolist()
    expected = formulas.label_loss(logits.numpy(), gamma=gamma, weights=used)
    loss = focal_loss(logits, LABELS, gamma, weights)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_with_gamma_0_it_is_cross_entropy(seed: int) -> None:
    logits = formulas.random_logits(seed=seed)[0]
    for weights in (None, WEIGHTS):
        expected = cross_entropy_loss(logits, LABELS, weights)
        torch.testing.assert_close(focal_loss(logits, LABELS, 0.0, weights), expected)


@given(st.integers(0, 1000), st.floats(0, 4), st.floats(0.1, 2))
@settings(max_examples=30)
def test_a_larger_gamma_lowers_it(seed: int, gamma: float, more: float) -> None:
    logits = formulas.random_logits(seed=seed)[0]
    assert focal_loss(logits, LABELS, gamma + more, None) < focal_loss(logits, LABELS, gamma, None)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_its_gradient(gamma: float) -> None:
    logits = formulas.random_logits(1.0)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, LABELS, gamma, WEIGHTS), (logits,))


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
def test_a_probability_of_1_or_0_leaves_the_gradient_finite(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 1]), gamma)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(100)  # of the two rows, 0 and 200
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0], [pytest.approx(0.5), pytest.approx(-0.5)]]
