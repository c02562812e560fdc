"""Every loss against its formula, written out in plain Python, and its gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.config import BaseLoss, DiversityForm, LossConfig, TemperatureForm
from training.losses.diversity import class_temperatures, diversity_from_mean, diversity_pairwise
from training.losses.ldam import effective_number_weights, ldam_loss, ldam_margins
from training.losses.ride import RideLoss

COUNTS = (500, 83, 20, 5)
CLASSES = len(COUNTS)
EXPERTS = 3
LABELS = (0, 3, 1, 1, 2, 0)
SCALE = 30.0

Array = NDArray[np.float64]


def random_logits(spread: float = 3.0) -> Tensor:
    """Double logits [K, N, C] of all experts."""
    generator = torch.Generator().manual_seed(3)
    shape = (EXPERTS, len(LABELS), CLASSES)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def softmax(logits: Array) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def expected_margins(max_margin: float) -> list[float]:
    return [max_margin * n**-0.25 / min(COUNTS) ** -0.25 for n in COUNTS]


def expected_weights(beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [w * CLASSES / sum(raw) for w in raw]


def expected_temperatures(form: TemperatureForm, eta: float, gamma: float) -> list[float]:
    psi = [gamma * CLASSES * n / sum(COUNTS) + 1 - gamma for n in COUNTS]
    if form is TemperatureForm.PAPER:
        return [eta * p + eta * (1 - max(psi)) for p in psi]
    return [eta * p / max(psi) for p in psi]


def expected_cross_entropy(
    logits: Array, margins: list[float], scale: float, weights: list[float]
) -> float:
    """Of one expert: the mean, weighted by the weight of each row's class."""
    total = 0.0
    for row, label in zip(logits, LABELS, strict=True):
        shifted = row.copy()
        shifted[label] -= scale * margins[label]
        total -= weights[label] * math.log(softmax(shifted)[label])
    return total / sum(weights[label] for label in LABELS)


def expected_diversity_from_mean(logits: Array, temperatures: list[float]) -> float:
    total = 0.0
    for n, i in product(range(len(LABELS)), range(EXPERTS)):
        mean = sum(logits[j, n] for j in range(EXPERTS)) / EXPERTS
        total += divergence(softmax(mean / temperatures), softmax(logits[i, n] / temperatures))
    return (sum(temperatures) / CLASSES) ** 2 * total / len(LABELS)


def expected_diversity_pairwise(logits: Array, temperatures: list[float]) -> float:
    total = 0.0
    for n, i, j in product(range(len(LABELS)), range(EXPERTS), range(EXPERTS)):
        if i != j:
            phi_i, phi_j = (softmax(logits[k, n] / temperatures) for k in (i, j))
            total += divergence(phi_i, phi_j)
    return total / (EXPERTS - 1) / len(LABELS)


def test_margins_grow_towards_rare_classes_up_to_the_largest() -> None:
    margins = ldam_margins(torch.tensor(COUNTS), 0.5)
    assert margins.tolist() == pytest.approx(expected_margins(0.5), rel=1e-6)
    assert margins[-1] == 0.5


@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_class_weights_follow_the_effective_number_and_sum_to_the_classes(beta: float) -> None:
    weights = effective_number_weights(torch.tensor(COUNTS), beta)
    assert weights.tolist() == pytest.approx(expected_weights(beta), rel=1e-5)
    assert weights.sum().item() == pytest.approx(CLASSES)


@pytest.mark.parametrize("form", TemperatureForm)
@pytest.mark.parametrize(("eta", "gamma"), [(1.0, 0.05), (1.5, 0.4)])
def test_temperatures_of_both_forms(form: TemperatureForm, eta: float, gamma: float) -> None:
    temperatures = class_temperatures(torch.tensor(COUNTS), form, eta, gamma)
    assert temperatures.tolist() == pytest.approx(expected_temperatures(form, eta, gamma), rel=1e-6)
    assert temperatures[0] == eta
    assert all(common > rare for common, rare in pairwise(temperatures))


@pytest.mark.parametrize("weighted", [False, True])
def test_ldam_is_cross_entropy_with_a_margin_on_the_label(weighted: bool) -> None:
    logits = random_logits()[0]
    margins, weights = [0.1, 0.2, 0.3, 0.4], [0.5, 0.7, 1.0, 1.8]
    loss = ldam_loss(
        logits,
        torch.tensor(LABELS),
        torch.tensor(margins),
        SCALE,
        torch.tensor(weights, dtype=torch.float64) if weighted else None,
    )
    used = weights if weighted else [1.0] * CLASSES
    assert loss.item() == pytest.approx(
        expected_cross_entropy(logits.numpy(), margins, SCALE, used), rel=1e-6
    )


def test_ldam_leaves_its_logits_as_they_were() -> None:
    logits = random_logits()[0]
    before = logits.clone()
    ldam_loss(logits, torch.tensor(LABELS), torch.full((CLASSES,), 0.5), SCALE)
    assert torch.equal(logits, before)


def test_diversity_from_the_mean() -> None:
    logits, temperatures = random_logits(), [1.0, 0.9, 0.8, 0.6]
    value = diversity_from_mean(logits, torch.tensor(temperatures))
    expected = expected_diversity_from_mean(logits.numpy(), temperatures)
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_diversity_between_pairs() -> None:
    logits, temperatures = random_logits(), [1.0, 0.9, 0.8, 0.6]
    value = diversity_pairwise(logits, torch.tensor(temperatures))
    expected = expected_diversity_pairwise(logits.numpy(), temperatures)
    assert value.item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 5), st.integers(0, 1000), st.floats(0.3, 3))
@settings(deadline=None, max_examples=50)
def test_diversity_is_nil_for_equal_experts_and_positive_otherwise(
    experts: int, seed: int, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(1, 4, CLASSES, generator=generator, dtype=torch.float64)
    several = torch.randn(experts + 1, 4, CLASSES, generator=generator, dtype=torch.float64)
    temperatures = torch.full((CLASSES,), temperature)
    for diversity in (diversity_from_mean, diversity_pairwise):
        equal = diversity(one.expand(experts, -1, -1), temperatures)
        assert equal.item() == pytest.approx(0, abs=1e-9)
        assert diversity(several, temperatures) > 0
        swapped = diversity(several.flip(0), temperatures)
        assert swapped.item() == pytest.approx(diversity(several, temperatures).item())


def test_gradient_of_ldam() -> None:
    labels, margins = torch.tensor(LABELS), torch.tensor([0.1, 0.2, 0.3, 0.4])
    weights = torch.tensor([0.5, 0.7, 1.0, 1.8], dtype=torch.float64)
    logits = random_logits()[0].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: ldam_loss(z, labels, margins.double(), 2.0, weights), (logits,)
    )


def test_gradient_of_diversity_between_pairs() -> None:
    temperatures = torch.tensor([1.0, 0.9, 0.8, 0.6], dtype=torch.float64)
    logits = random_logits(1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: diversity_pairwise(z, temperatures), (logits,))


def test_gradient_of_diversity_from_the_mean_takes_the_mean_as_given() -> None:
    """With the mean p held fixed, d/dz_i is Tbar^2 / N * (softmax(z_i / T) - p) / T.

    What would flow through the mean cancels in the sum over experts, so only the value shows.
    """
    temperatures = torch.tensor([1.0, 0.9, 0.8, 0.6], dtype=torch.float64)
    logits = random_logits(1.0).requires_grad_()
    diversity_from_mean(logits, temperatures).backward()  # type: ignore[no-untyped-call]
    fixed = logits.detach().numpy()
    for n, i in product(range(len(LABELS)), range(EXPERTS)):
        p = np.array(softmax(fixed[:, n].mean(axis=0) / temperatures.numpy()))
        q = np.array(softmax(fixed[i, n] / temperatures.numpy()))
        expected = 0.825**2 / len(LABELS) * (q - p) / temperatures.numpy()
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad[i, n].numpy(), expected, atol=1e-12)


def expected_ride(logits: Array, config: LossConfig, scale: float, deferred: bool) -> float:
    margins, weights = [0.0] * CLASSES, [1.0] * CLASSES
    temperatures = [config.temperature_eta] * CLASSES
    if config.base is BaseLoss.LDAM:
        margins = expected_margins(config.max_margin)
    if deferred:
        weights = expected_weights(config.reweighting_beta)
        temperatures = expected_temperatures(
            config.temperature, config.temperature_eta, config.temperature_gamma
        )
    prior = np.zeros(CLASSES)
    if config.base is BaseLoss.BALANCED_SOFTMAX:
        prior = np.log(np.array(COUNTS) / sum(COUNTS))
    base = sum(expected_cross_entropy(expert + prior, margins, scale, weights) for expert in logits)
    match config.diversity:
        case DiversityForm.MEAN:
            diversity = expected_diversity_from_mean(logits, temperatures)
        case DiversityForm.PAIRWISE:
            diversity = expected_diversity_pairwise(logits, temperatures)
        case DiversityForm.NONE:
            diversity = 0.0
    return base + config.diversity_weight * diversity


def ride_loss(config: LossConfig, epoch: int, scale: float = SCALE) -> Tensor:
    loss = RideLoss(config, COUNTS, scale, torch.device("cpu"))
    return loss(random_logits().float(), torch.tensor(LABELS), epoch)


@pytest.mark.parametrize("base", BaseLoss)
@pytest.mark.parametrize("diversity", DiversityForm)
@pytest.mark.parametrize("temperature", TemperatureForm)
@pytest.mark.parametrize("epoch", [159, 160])
def test_the_whole_loss_adds_up(
    base: BaseLoss, diversity: DiversityForm, temperature: TemperatureForm, epoch: int
) -> None:
    config = LossConfig(
        base=base,
        diversity=diversity,
        temperature=temperature,
        temperature_gamma=0.3,
        temperature_eta=1.2,
    )
    expected = expected_ride(random_logits().numpy(), config, SCALE, deferred=epoch >= 160)
    assert ride_loss(config, epoch).item() == pytest.approx(expected, rel=1e-4)


def test_deferred_reweighting_starts_at_its_epoch_and_stays() -> None:
    config = LossConfig(reweighting_epoch=7)
    values = [ride_loss(config, epoch).item() for epoch in range(10)]
    assert len(set(values[:7])) == len(set(values[7:])) == 1
    assert values[6] != values[7]


def test_more_diversity_lowers_the_loss() -> None:
    config = LossConfig(diversity_weight=-0.45)
    assert ride_loss(config, 0) < ride_loss(replace(config, diversity_weight=0.0), 0)


def test_every_expert_learns_from_the_loss() -> None:
    logits = random_logits().float().requires_grad_()
    loss = RideLoss(LossConfig(), COUNTS, SCALE, torch.device("cpu"))
    loss(logits, torch.tensor(LABELS), 0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad.abs().sum(dim=(1, 2)) > 0).all()
