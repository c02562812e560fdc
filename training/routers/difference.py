"""Go on where a further expert changes an answer for the better: a learned difference.

The best rule for deferring compares P(later right) - P(now right) with the cost (Jitkrittum et
al., "When Does Confidence-Based Cascade Deferral Suffice?", NeurIPS 2023). RIDE's own label knows
help but not harm, an answer that is right now and wrong later; the difference knows both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ModelConfig
from training.routers.agreement import disagreement, earlier_mean
from training.routers.entropy import normalised_entropy
from training.routers.margin import closeness
from training.routers.max_probability import doubt
from training.routers.score import as_score

_WEIGHT_PENALTY = 1e-3
_ITERATIONS = 100
_SMALLEST_CHANGE = 1e-6
_SMALLEST_LOG_PROBABILITY = -20.0


class DifferenceRouter(nn.Module):
    """Estimates d, how much likelier all experts are to be right than those so far: (d + 1) / 2.

    So 0.5 means that further experts help as much as they harm. A small network on what is known
    of the answer for next to nothing: the largest log probabilities, margin and entropy of the
    prefix, and, from the second expert on, how the newest expert differs from those before.

    Args: experts k so far; expert k's classifier; the number of classes C to look at; the width
    of the hidden layer.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, experts: int, classifier: nn.Module, top_logits: int, width: int) -> None:
        super().__init__()
        self.experts = experts
        self.classifier = classifier if experts > 1 else None
        self.top_logits = top_logits
        inputs = top_logits + 3 + (3 if experts > 1 else 0)
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.hidden = nn.Linear(inputs, width)
        self.output = nn.Linear(width, 1)

    def features(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:
        """What the network sees: embedding [N, D], prefix logits [N, C] -> [N, F]."""
        log_probabilities = torch.log_softmax(prefix_logits, dim=1)
        top = log_probabilities.topk(self.top_logits, dim=1).values
        measures = [
            doubt(prefix_logits),
            closeness(prefix_logits),
            normalised_entropy(prefix_logits),
        ]
        if self.classifier is not None:
            newest = self.classifier(embedding)
            earlier = earlier_mean(prefix_logits, newest, self.experts)
            measures += [disagreement(newest, earlier), doubt(newest), doubt(earlier)]
        return torch.cat((top.clamp(_SMALLEST_LOG_PROBABILITY), torch.stack(measures, 1)), dim=1)

    def logit(self, features: Tensor) -> Tensor:
        """The score before the sigmoid, [N]."""
        hidden = F.relu(self.hidden((features - self.center) * self.scale))
        score: Tensor = self.output(hidden)
        return score.squeeze(1)

    def forward(self, embedding: Tensor, prefix_logits: Tensor) -> Tensor:
        return as_score(torch.sigmoid(self.logit(self.features(embedding, prefix_logits))))


def difference_routers(config: ModelConfig, experts: Sequence[nn.Module]) -> list[nn.Module]:
    """One router for each expert, not fitted yet."""
    return [
        DifferenceRouter(
            count,
            expert.get_submodule("classifier"),
            config.router_top_logits,
            config.router_width,
        )
        for count, expert in enumerate(experts, start=1)
    ]


def fit_difference(
    routers: nn.ModuleList,
    embeddings: Tensor,
    prefixes: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    seed: int = 0,
) -> None:
    """Fit the routers one after the other on cached outputs; the same each time.

    The target is p_K(y) - p_i(y), the true class's probability after all experts and after i: the
    paper's Diff-Prob, less noisy than the difference of right and wrong.

    The images must not be known to the experts by heart: strongly augmented views, or folds that
    they were not trained on. A later router learns on the images that survive the earlier ones:
    an image's weight is its chance to go on if each router sends on a share of the images that is
    drawn uniformly, so the most eager image counts in full, the median one by half.

    Args: embeddings [K, N, D], prefix means [K, N, C], labels int64 [N]; optional weights of the
    images [N], for instance balanced over classes.
    """
    probabilities = torch.softmax(prefixes, dim=2)
    right = probabilities[:, torch.arange(len(labels)), labels]  # [K, N]
    survival = torch.ones_like(right[0]) if weights is None else weights.float()
    for i, router in enumerate(routers):
        assert isinstance(router, DifferenceRouter)
        with torch.no_grad():
            features = router.features(embeddings[i], prefixes[i])
        gain = right[-1] - right[i]
        generator = torch.Generator().manual_seed(seed + i)
        _fit(router, features, (gain + 1) / 2, survival / survival.sum(), generator)
        with torch.no_grad():
            survival = survival * _rank_share(router.logit(features))


def _fit(
    router: DifferenceRouter,
    features: Tensor,
    target: Tensor,
    weights: Tensor,
    generator: torch.Generator,
) -> None:
    """Minimise weighted cross-entropy and a penalty on large weights; weights [N] sum to 1.

    Cross-entropy against a target in [0, 1] is smallest at its mean, which is (d + 1) / 2.
    """
    center = weights @ features
    router.center.copy_(center)
    router.scale.copy_((weights @ (features - center).square()).sqrt().clamp(1e-3).reciprocal())
    layers = (router.hidden, router.output)
    for layer in layers:
        bound = layer.in_features**-0.5
        drawn = torch.rand(layer.weight.shape, generator=generator) * 2 - 1
        layer.weight.data.copy_(drawn * bound)
        layer.bias.data.zero_()
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=_ITERATIONS,
        tolerance_change=_SMALLEST_CHANGE,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logit = router.logit(features)
        losses = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        penalty = torch.stack([layer.weight.square().sum() for layer in layers]).sum()
        total = weights @ losses + _WEIGHT_PENALTY * penalty
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]


def _rank_share(values: Tensor) -> Tensor:
    """Rank of each value as a share: 1 for the largest, 1/N for the smallest, [N]."""
    ranks = values.argsort(stable=True).argsort(stable=True)
    return (ranks + 1) / len(values)
