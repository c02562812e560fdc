"""Cross-entropy against its formula."""

from __future__ import annotations

import pytest
import torch

from tests.training.losses import formulas
from training.losses.cross_entropy import cross_entropy_loss

LABELS = torch.tensor(formulas.LABELS)
WEIGHTS = torch.tensor([0.5, 0.7, 1.0, 1.8], dtype=torch.float64)


def test_it_is_the_mean_of_the_negative_log_probabilities() -> None:
    logits = formulas.random_logits()[0]
    expected = formulas.label_loss(logits.numpy())
    assert cross_entropy_loss(logits, LABELS).item() == pytest.approx(expected, rel=1e-9)


def test_class_weights_make_the_mean_a_weighted_mean() -> None:
    logits = formulas.random_logits()[0]
    expected = formulas.label_loss(logits.numpy(), weights=WEIGHTS.tolist())
    assert cross_entropy_loss(logits, LABELS, WEIGHTS).item() == pytest.approx(expected, rel=1e-9)


def test_its_gradient() -> None:
    logits = formulas.random_logits()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: cross_entropy_loss(z, LABELS, WEIGHTS), (logits,))
