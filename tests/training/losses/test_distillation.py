"""Distillation against its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.losses import formulas
from training.losses.distillation import distillation_loss

TEACHER = formulas.random_logits(seed=8)[0]


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_it_follows_the_formula(temperature: float) -> None:
    student = formulas.random_logits()[0]
    expected = formulas.distillation(student.numpy(), TEACHER.numpy(), temperature)
    loss = distillation_loss(student, TEACHER, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.floats(0.5, 5), st.floats(-5, 5))
@settings(max_examples=30)
def test_it_is_nil_for_what_the_teacher_says_and_positive_otherwise(
    seed: int, temperature: float, constant: float
) -> None:
    student = formulas.random_logits(seed=seed)[0]
    same = distillation_loss(student, student + constant, temperature)
    assert same.item() == pytest.approx(0, abs=1e-9)
    assert distillation_loss(student, student.flip(1), temperature) > 0


def test_its_gradient() -> None:
    student = formulas.random_logits()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: distillation_loss(z, TEACHER, 1.5), (student,))


def test_the_teacher_learns_nothing() -> None:
    student, teacher = formulas.random_logits()[0].requires_grad_(), TEACHER.clone()
    teacher.requires_grad_()
    distillation_loss(student, teacher, 1.5).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
