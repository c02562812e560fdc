"""Both forms of the diversity loss and of its temperatures against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.losses import formulas
from training.choices import TemperatureForm
from training.errors import ConfigError
from training.losses.diversity import class_temperatures, diversity_from_mean, diversity_pairwise

COUNTS = torch.tensor(formulas.COUNTS)
TEMPERATURES = torch.tensor([1.0, 0.9, 0.8, 0.6], dtype=torch.float64)


@pytest.mark.parametrize("form", TemperatureForm)
@pytest.mark.parametrize(("eta", "gamma"), [(1.0, 0.05), (1.5, 0.2)])
def test_temperatures_of_both_forms(form: TemperatureForm, eta: float, gamma: float) -> None:
    temperatures = class_temperatures(COUNTS, form, eta, gamma)
    assert temperatures.tolist() == pytest.approx(formulas.temperatures(form, eta, gamma), rel=1e-6)
    assert temperatures[0] == eta
    assert all(common > rare for common, rare in pairwise(temperatures))


@pytest.mark.parametrize(("form", "gamma"), [("paper", 0.4), ("code", 1.1)])
def test_a_gamma_that_leaves_a_class_no_temperature_is_refused(form: str, gamma: float) -> None:
    with pytest.raises(ConfigError, match=r"loss\.temperature_gamma is"):
        class_temperatures(COUNTS, TemperatureForm(form), 1.0, gamma)


def test_diversity_from_the_mean() -> None:
    logits = formulas.random_logits()
    expected = formulas.diversity_from_mean(logits.numpy(), TEMPERATURES.tolist())
    assert diversity_from_mean(logits, TEMPERATURES).item() == pytest.approx(expected, rel=1e-9)


def test_diversity_between_pairs() -> None:
    logits = formulas.random_logits()
    expected = formulas.diversity_pairwise(logits.numpy(), TEMPERATURES.tolist())
    assert diversity_pairwise(logits, TEMPERATURES).item() == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 5), st.integers(0, 1000), st.floats(0.3, 3))
@settings(max_examples=50)
def test_diversity_is_nil_for_equal_experts_and_positive_otherwise(
    experts: int, seed: int, temperature: float
) -> None:
    one = formulas.random_logits(1.0, seed, experts=1)
    several = formulas.random_logits(1.0, seed, experts=experts + 1)
    temperatures = torch.full((formulas.CLASSES,), temperature)
    for diversity in (diversity_from_mean, diversity_pairwise):
        equal = diversity(one.expand(experts, -1, -1), temperatures)
        assert equal.item() == pytest.approx(0, abs=1e-9)
        assert diversity(several, temperatures) > 0
        swapped = diversity(several.flip(0), temperatures)
        assert swapped.item() == pytest.approx(diversity(several, temperatures).item())


@pytest.mark.parametrize("diversity", [diversity_from_mean, diversity_pairwise])
def test_a_single_expert_has_no_diversity_and_learns_nothing_from_it(
    diversity: Callable[[Tensor, Tensor], Tensor],
) -> None:
    logits = formulas.random_logits(experts=1).requires_grad_()
    value = diversity(logits, TEMPERATURES) + 0 * logits.sum()
    value.backward()  # type: ignore[no-untyped-call]
    assert value == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


def test_gradient_of_diversity_between_pairs() -> None:
    logits = formulas.random_logits(1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: diversity_pairwise(z, TEMPERATURES), (logits,))


def test_gradient_of_diversity_from_the_mean_takes_the_mean_as_given() -> None:
    """With the mean p held fixed, d/dz_i is Tbar^2 / N * (softmax(z_i / T) - p) / T.

    What would flow through the mean cancels in the sum over experts, so only the value shows.
    """
    logits = formulas.random_logits(1.0).requires_grad_()
    diversity_from_mean(logits, TEMPERATURES).backward()  # type: ignore[no-untyped-call]
    fixed, temperatures = logits.detach().numpy(), TEMPERATURES.numpy()
    images = len(formulas.LABELS)
    for n, i in product(range(images), range(formulas.EXPERTS)):
        p = np.array(formulas.softmax(fixed[:, n].mean(axis=0) / temperatures))
        q = np.array(formulas.softmax(fixed[i, n] / temperatures))
        expected = 0.825**2 / images * (q - p) / temperatures
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad[i, n].numpy(), expected, atol=1e-12)
