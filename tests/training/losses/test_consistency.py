"""Consistency of two views against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.losses import formulas
from training.losses.consistency import consistency_loss

LABELS = torch.tensor(formulas.LABELS)
STRONG = formulas.random_logits(1.0)
WEAK = formulas.random_logits(1.0, seed=4)


def saying(labels: Tensor) -> Tensor:
    """Weak logits [K, N, C] with which every expert gives these labels."""
    return WEAK + 20.0 * F.one_hot(labels, formulas.CLASSES)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_follows_the_formula(temperature: float) -> None:
    right = (WEAK.argmax(dim=2) == LABELS).sum(dim=1)
    assert ((right > 0) & (right < len(LABELS))).any()  # else nothing would be left out
    expected = formulas.consistency(STRONG.numpy(), WEAK.numpy(), formulas.LABELS, temperature)
    loss = consistency_loss(STRONG, WEAK, LABELS, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_an_expert_that_is_wrong_on_every_weak_view_gives_no_example() -> None:
    strong = STRONG.clone().requires_grad_()
    loss = consistency_loss(strong, saying((LABELS + 1) % formulas.CLASSES), LABELS, 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert strong.grad is not None
    assert not strong.grad.any()


def test_equal_views_are_consistent() -> None:
    weak = saying(LABELS)
    assert consistency_loss(weak, weak, LABELS, 1.0).item() == pytest.approx(0, abs=1e-9)


def test_only_images_that_are_right_in_the_weak_view_are_learnt_from() -> None:
    weak = saying(torch.where(LABELS == 1, 0, LABELS))
    strong = STRONG.clone().requires_grad_()
    consistency_loss(strong, weak, LABELS, 1.0).backward()  # type: ignore[no-untyped-call]
    assert strong.grad is not None
    learnt = strong.grad.abs().sum(dim=2) > 0
    assert torch.equal(learnt, (LABELS != 1).expand(formulas.EXPERTS, -1))


def test_its_gradient() -> None:
    strong = STRONG.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: consistency_loss(z, WEAK, LABELS, 2.5), (strong,))


def test_the_weak_view_learns_nothing() -> None:
    strong, weak = STRONG.clone().requires_grad_(), saying(LABELS).requires_grad_()
    consistency_loss(strong, weak, LABELS, 1.0).backward()  # type: ignore[no-untyped-call]
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.any()
