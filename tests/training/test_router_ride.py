"""What routers learn: labels against a brute-force loop, the loss against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.config import ModelConfig, RouterConfig
from training.model import RideModel, prefix_means
from training.routers.ride import router_labels, router_loss

CLASSES = 4


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """The class that each prefix of K experts predicts for N images, and their labels."""
    experts, count = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    classes = st.integers(0, CLASSES - 1)
    rows = st.lists(classes, min_size=count, max_size=count)
    return draw(st.lists(rows, min_size=experts, max_size=experts)), draw(rows)


@given(predictions())
def test_an_expert_helps_where_this_prefix_is_wrong_and_a_longer_one_right(
    case: tuple[list[list[int]], list[int]],
) -> None:
    predicted, labels = case
    prefixes = torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).float()
    helped = router_labels(prefixes, torch.tensor(labels))
    assert helped.dtype == torch.bool
    assert helped.tolist() == [
        [
            predicted[i][n] != label and any(longer[n] == label for longer in predicted[i + 1 :])
            for n, label in enumerate(labels)
        ]
        for i in range(len(predicted) - 1)
    ]


def outputs(model: RideModel, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random embeddings [K, N, D], prefix means [K, N, C] and labels [N]."""
    generator = torch.Generator().manual_seed(2)
    config = model.config
    embeddings = torch.rand(config.num_experts, count, 48, generator=generator)
    logits = torch.randn(config.num_experts, count, config.num_classes, generator=generator)
    labels = torch.randint(config.num_classes, (count,), generator=generator)
    return embeddings, prefix_means(logits), labels


def test_the_loss_weighs_images_that_a_further_expert_helps() -> None:
    model = RideModel(ModelConfig(num_classes=CLASSES))
    embeddings, prefixes, labels = outputs(model, 16)
    config = RouterConfig(positive_weight=100.0, negative_weight=2.0)
    helped = router_labels(prefixes, labels)
    expected = 0.0
    for i, router in enumerate(model.routers):
        total = sum(100.0 if positive else 2.0 for positive in helped[i])
        for score, positive in zip(router(embeddings[i], prefixes[i]), helped[i], strict=True):
            right = score.item() if positive else 1 - score.item()
            expected -= (100.0 if positive else 2.0) * math.log(right) / total
    assert 0 < helped.sum() < helped.numel()
    loss = router_loss(model.routers, embeddings, prefixes, labels, config)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_every_router_learns() -> None:
    model = RideModel(ModelConfig(num_classes=CLASSES))
    embeddings, prefixes, labels = outputs(model, 16)
    loss = router_loss(model.routers, embeddings, prefixes, labels, RouterConfig())
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in model.routers.parameters())
    assert all(weight.grad is None for weight in model.experts.parameters())
