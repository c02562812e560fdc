"""The learned difference: it finds what is there to find, and the same each time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.choices import RouterKind
from training.config import ModelConfig
from training.model import prefix_means
from training.routers.difference import DifferenceRouter, fit_difference
from training.routers.registry import build_routers

CLASSES, WIDTH = 4, 4


class Expert(nn.Module):
    """Answers with its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = WIDTH
        self.classifier = nn.Identity()


def fresh_routers(experts: int) -> nn.ModuleList:
    config = ModelConfig(
        num_classes=CLASSES, num_experts=experts, router_kind=RouterKind.DIFFERENCE
    )
    return build_routers(config, [Expert() for _ in range(experts)])


def fitted(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None
) -> tuple[nn.ModuleList, Tensor]:
    """Routers fitted on logits [K, N, C], and their scores [K-1, N]."""
    routers = fresh_routers(len(logits))
    prefixes = prefix_means(logits)
    fit_difference(routers, logits, prefixes, labels, weights=weights)
    with torch.no_grad():
        rows = [router(logits[i], prefixes[i]) for i, router in enumerate(routers)]
    return routers, torch.stack(rows)


def two_experts(help_share: float, harm_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [2, N, C], labels, and which images the first expert is unsure of.

    Of these, so many are helped and so many harmed by the second; of the others nobody is.
    """
    generator = torch.Generator().manual_seed(0)
    count = 2_000
    labels = torch.randint(CLASSES, (count,), generator=generator)
    other = (labels + 1) % CLASSES
    unsure = torch.rand(count, generator=generator) < 0.5
    draw = torch.rand(count, generator=generator)
    helped = unsure & (draw < help_share)
    harmed = unsure & (draw >= help_share) & (draw < help_share + harm_share)
    first = torch.nn.functional.one_hot(torch.where(helped, other, labels), CLASSES).float()
    second = torch.nn.functional.one_hot(torch.where(harmed, other, labels), CLASSES).float()
    sharpness = torch.where(unsure, 1.0, 4.0).unsqueeze(1)
    return torch.stack((first * sharpness, second * 20)), labels, unsure


@pytest.mark.parametrize(("helped", "harmed"), [(0.6, 0.0), (0.6, 0.5), (0.1, 0.4)])
def test_scores_are_the_difference_between_help_and_harm(helped: float, harmed: float) -> None:
    logits, labels, unsure = two_experts(helped, harmed)
    _, (scores,) = fitted(logits, labels)
    probabilities = torch.softmax(prefix_means(logits).double(), dim=2)
    right = probabilities.gather(2, labels.view(1, -1, 1).expand(2, -1, 1)).squeeze(2)
    for group in (unsure, ~unsure):
        difference = (right[1] - right[0])[group].mean().item()
        assert scores[group].mean().item() == pytest.approx((difference + 1) / 2, abs=0.02)


def test_the_same_outputs_give_the_same_routers() -> None:
    logits, labels, _ = two_experts(0.5, 0.2)
    first, _ = fitted(logits, labels)
    torch.rand(3)  # whatever was drawn elsewhere
    second, _ = fitted(logits, labels)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_weights_count_as_so_many_images() -> None:
    logits, labels, unsure = two_experts(0.5, 0.2)
    heavy = torch.where(unsure & (labels == 0), 3.0, 1.0)
    times = heavy.long()
    _, weighted = fitted(logits, labels, heavy)
    routers, _ = fitted(logits.repeat_interleave(times, 1), labels.repeat_interleave(times))
    with torch.no_grad():
        repeated = routers[0](logits[0], logits[0])
    torch.testing.assert_close(weighted[0], repeated, atol=0.01, rtol=0)


def test_a_later_router_learns_on_the_images_that_come_so_far() -> None:
    """After two experts all images look the same, but only those that go on are helped."""
    count = 400
    eager = torch.arange(count) % 2 == 0
    labels = eager.long()
    start = torch.tensor([1.0, 0.0, 0.0, 0.0])  # class 0: wrong for the eager, right for others
    first = start * torch.where(eager, 1.0, 6.0).unsqueeze(1)
    last = 30 * torch.eye(CLASSES)[labels]
    prefixes = torch.stack((first, start.expand(count, -1), last))
    routers = fresh_routers(3)
    fit_difference(routers, prefixes, prefixes, labels)
    gain_of_others, gain_of_eager = (1 - torch.softmax(start, dim=0)[:2]).tolist()
    # The eager ones have the upper half of the ranks: three quarters of the weight.
    expected = 0.75 * gain_of_eager + 0.25 * gain_of_others
    with torch.no_grad():
        score = routers[1](prefixes[1], prefixes[1])[0].item()
    assert score == pytest.approx((expected + 1) / 2, abs=0.005)
    assert abs(gain_of_eager - gain_of_others) / 8 > 0.02  # else equal weights would pass too


def test_the_network_behind_the_score_is_its_formula() -> None:
    logits, labels, _ = two_experts(0.5, 0.2)
    routers, (scores,) = fitted(logits, labels)
    (router,) = routers
    assert isinstance(router, DifferenceRouter)
    x = router.features(logits[0], logits[0]).double().numpy()
    state = {name: value.double().numpy() for name, value in router.state_dict().items()}
    hidden = (x - state["center"]) * state["scale"] @ state["hidden.weight"].T
    hidden = (hidden + state["hidden.bias"]).clip(0)
    logit = hidden @ state["output.weight"][0] + state["output.bias"]
    torch.testing.assert_close(
        scores.double(), torch.sigmoid(torch.from_numpy(logit)), atol=1e-4, rtol=1e-4
    )
    probabilities = torch.softmax(logits[0].double(), dim=1)
    ordered = probabilities.sort(dim=1, descending=True).values
    torch.testing.assert_close(
        torch.from_numpy(x[:, :CLASSES]), ordered.log(), atol=1e-4, rtol=1e-4
    )
