"""Every loss once more, image by image in plain Python, to compare with; and logits to try on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.choices import TemperatureForm

COUNTS = (500, 83, 20, 5)
CLASSES = len(COUNTS)
EXPERTS = 3
LABELS = (0, 3, 1, 1, 2, 0)

Array = NDArray[np.float64]
Numbers = Sequence[float] | Array


def random_logits(spread: float = 3.0, seed: int = 3, experts: int = EXPERTS) -> Tensor:
    """Double logits [K, N, C] of all experts."""
    generator = torch.Generator().manual_seed(seed)
    shape = (experts, len(LABELS), CLASSES)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def softmax(logits: Array) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def divergence(p: Numbers, q: Numbers) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def margins(max_margin: float) -> list[float]:
    return [max_margin * n**-0.25 / min(COUNTS) ** -0.25 for n in COUNTS]


def effective_number_weights(beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [w * CLASSES / sum(raw) for w in raw]


def temperatures(form: TemperatureForm, eta: float, gamma: float) -> list[float]:
    psi = [gamma * CLASSES * n / sum(COUNTS) + 1 - gamma for n in COUNTS]
    if form is TemperatureForm.PAPER:
        return [eta * p + eta * (1 - max(psi)) for p in psi]
    return [eta * p / max(psi) for p in psi]


def label_loss(
    logits: Array,
    labels: Sequence[int] = LABELS,
    shift: Numbers = (0.0,) * CLASSES,
    gamma: float = 0.0,
    weights: Numbers = (1.0,) * CLASSES,
) -> float:
    """Of one expert: focal loss (cross-entropy if gamma is 0), `shift` off the label's logit.

    The mean is weighted by the weight of each image's class.
    """
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        shifted = row.copy()
        shifted[label] -= shift[label]
        p = softmax(shifted)[label]
        total -= weights[label] * (1 - p) ** gamma * math.log(p)
    return float(total / sum(weights[label] for label in labels))


def diversity_from_mean(logits: Array, temperature: Sequence[float]) -> float:
    experts, images, classes = logits.shape
    total = 0.0
    for n, i in product(range(images), range(experts)):
        mean = sum(logits[j, n] for j in range(experts)) / experts
        total += divergence(softmax(mean / temperature), softmax(logits[i, n] / temperature))
    return float((sum(temperature) / classes) ** 2 * total / images)


def diversity_pairwise(logits: Array, temperature: Sequence[float]) -> float:
    experts, images, _ = logits.shape
    total = 0.0
    for n, i, j in product(range(images), range(experts), range(experts)):
        if i != j:
            phi_i, phi_j = (softmax(logits[k, n] / temperature) for k in (i, j))
            total += divergence(phi_i, phi_j) / (experts - 1)
    return float(total / images)


def distillation(student: Array, teacher: Array, temperature: float) -> float:
    each = [
        divergence(softmax(t / temperature), softmax(s / temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    return temperature**2 * sum(each) / len(each)


def consistency(strong: Array, weak: Array, labels: Sequence[int], temperature: float) -> float:
    total = 0.0
    for expert_strong, expert_weak in zip(strong, weak, strict=True):
        right = [n for n, label in enumerate(labels) if np.argmax(expert_weak[n]) == label]
        if right:
            total += distillation(expert_strong[right], expert_weak[right], temperature)
    return total
