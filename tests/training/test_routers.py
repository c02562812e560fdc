"""Every router's score against its formula in numpy; what all of them have in common."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from training.choices import RouterKind
from training.config import ModelConfig
from training.model import RideModel, prefix_means
from training.routers.agreement import AgreementRouter, earlier_mean
from training.routers.baselines import oracle_scores, random_scores
from training.routers.difference import DifferenceRouter
from training.routers.max_probability import MaxProbabilityRouter
from training.routers.registry import build_routers

Double = NDArray[np.float64]
CLASSES, WIDTH, EXPERTS, IMAGES = 5, 6, 3, 40


class Expert(nn.Module):
    """As much of an expert as a router sees."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = WIDTH
        self.classifier = nn.Linear(WIDTH, CLASSES)


class Outputs:
    """Experts, their embeddings [K, N, D] and their prefix means [K, N, C]."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.experts = [Expert() for _ in range(EXPERTS)]
            self.embeddings = torch.randn(EXPERTS, IMAGES, WIDTH) * 3
        pairs = zip(self.experts, self.embeddings, strict=True)
        with torch.no_grad():
            self.logits = torch.stack([expert.classifier(f) for expert, f in pairs])
        self.prefixes = prefix_means(self.logits)

    def routers(self, kind: RouterKind) -> nn.ModuleList:
        config = ModelConfig(num_classes=CLASSES, num_experts=EXPERTS, router_kind=kind)
        return build_routers(config, self.experts)

    def scores(self, kind: RouterKind) -> Double:
        with torch.no_grad():
            rows = [
                router(self.embeddings[i], self.prefixes[i])
                for i, router in enumerate(self.routers(kind))
            ]
        return torch.stack(rows).double().numpy()


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    return Outputs()


def probabilities(logits: Tensor) -> Double:
    shifted = np.exp(logits.double().numpy() - logits.double().numpy().max(axis=-1, keepdims=True))
    return cast("Double", shifted / shifted.sum(axis=-1, keepdims=True))


def test_maximum_probability(outputs: Outputs) -> None:
    expected = 1 - probabilities(outputs.prefixes[:-1]).max(axis=2)
    np.testing.assert_allclose(outputs.scores(RouterKind.MAX_PROBABILITY), expected, atol=1e-5)


def test_margin(outputs: Outputs) -> None:
    ordered = np.sort(probabilities(outputs.prefixes[:-1]), axis=2)
    expected = 1 - (ordered[..., -1] - ordered[..., -2])
    np.testing.assert_allclose(outputs.scores(RouterKind.MARGIN), expected, atol=1e-5)


def test_entropy(outputs: Outputs) -> None:
    p = probabilities(outputs.prefixes[:-1])
    expected = -(p * np.log(p)).sum(axis=2) / math.log(CLASSES)
    np.testing.assert_allclose(outputs.scores(RouterKind.ENTROPY), expected, atol=1e-5)


def test_agreement_compares_the_newest_expert_with_those_before(outputs: Outputs) -> None:
    scores = outputs.scores(RouterKind.AGREEMENT)
    first, second = probabilities(outputs.logits[0]), probabilities(outputs.logits[1])
    np.testing.assert_allclose(scores[1], np.abs(first - second).sum(axis=1) / 2, atol=1e-5)
    np.testing.assert_allclose(scores[0], 1 - first.max(axis=1), atol=1e-5)


@given(st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=25)
def test_the_earlier_mean_follows_from_the_mean_and_the_newest(experts: int, seed: int) -> None:
    logits = torch.randn(experts, 4, 3, generator=torch.Generator().manual_seed(seed))
    earlier = earlier_mean(logits.mean(dim=0), logits[-1], experts)
    torch.testing.assert_close(earlier, logits[:-1].mean(dim=0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", RouterKind)
def test_scores_lie_above_0_and_up_to_1_however_sure_the_model_is(
    outputs: Outputs, kind: RouterKind
) -> None:
    sure = torch.tensor([[1e4, 0.0, 0.0, 0.0, 0.0]])
    undecided = torch.zeros(1, CLASSES)
    for router in outputs.routers(kind):
        for prefix in (sure, undecided, outputs.prefixes[0]):
            embedding = torch.zeros(len(prefix), WIDTH)
            score = router(embedding, prefix)
            assert score.shape == (len(prefix),)
            assert ((score > 0) & (score <= 1)).all()


@pytest.mark.parametrize("kind", RouterKind)
def test_a_row_does_not_depend_on_its_batch(outputs: Outputs, kind: RouterKind) -> None:
    for i, router in enumerate(outputs.routers(kind)):
        together = router(outputs.embeddings[i], outputs.prefixes[i])
        alone = router(outputs.embeddings[i, 7:8], outputs.prefixes[i, 7:8])
        torch.testing.assert_close(alone, together[7:8])


@pytest.mark.parametrize("kind", RouterKind)
@pytest.mark.parametrize("experts", [1, 2, 4])
def test_a_model_of_any_kind_has_one_router_less_than_experts(
    kind: RouterKind, experts: int
) -> None:
    config = ModelConfig(num_classes=4, num_experts=experts, router_kind=kind)
    model = RideModel(config)
    assert len(model.routers) == experts - 1
    again = RideModel(config)
    again.load_state_dict(model.state_dict())
    for router, expert in zip(again.routers, again.experts, strict=False):
        if isinstance(router, AgreementRouter | DifferenceRouter) and router.experts > 1:
            assert router.classifier is expert.classifier


def test_after_one_expert_agreement_falls_back_on_the_largest_probability(
    outputs: Outputs,
) -> None:
    first, second = outputs.routers(RouterKind.AGREEMENT)
    assert isinstance(first, MaxProbabilityRouter)
    assert isinstance(second, AgreementRouter)


def test_corrections_are_added_to_each_prefix() -> None:
    logits, corrections = torch.randn(3, 4, 5), torch.randn(3, 5)
    plain, corrected = prefix_means(logits), prefix_means(logits, corrections)
    for k in range(3):
        torch.testing.assert_close(corrected[k], plain[k] + corrections[k])


def test_chance_knows_nothing_and_repeats_itself() -> None:
    scores = random_scores(3, 5_000)
    assert scores.shape == (2, 5_000)
    assert abs(np.corrcoef(scores[0], scores[1]).flat[1]) < 0.05
    np.testing.assert_allclose(np.quantile(scores, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)
    np.testing.assert_array_equal(scores, random_scores(3, 5_000))
    assert not np.array_equal(scores, random_scores(3, 5_000, seed=1))


def test_hindsight_sends_on_those_that_the_next_expert_puts_right_first() -> None:
    right = np.array([[0, 0, 0, 1, 1], [1, 0, 0, 0, 1], [0, 1, 0, 1, 1]], dtype=bool)
    scores = oracle_scores(right)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[0], [1, 0.5, 0, 0, 0], rtol=2e-3)
    np.testing.assert_allclose(scores[1], [0, 1, 0, 1, 0], rtol=2e-3)
