"""The candidates of `ride route`: each kind of router, its curve, its best point for a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from serving.model.curves import Curve, CurvePoint
from serving.model.routing import Float
from training.calibration import best_within, cheapest_reaching, class_balanced_weights
from training.checkpoint import Checkpoint
from training.choices import RouterKind
from training.costs import multiply_adds
from training.errors import ConfigError
from training.outputs import Outputs, prefix_logits, router_scores
from training.requests import DEFAULT_DROP
from training.route.comparison import ComparisonRow, ScoredRouter, compare
from training.route.data import RoutingData
from training.routers.baselines import oracle_scores, random_scores
from training.routers.difference import fit_difference
from training.routers.registry import build_routers

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Budget:
    """What thresholds are to be chosen for: a mean number of experts, or a drop in points."""

    mean_experts: float | None = None
    max_accuracy_drop: float | None = None

    def __post_init__(self) -> None:
        if self.mean_experts is not None and self.max_accuracy_drop is not None:
            raise ConfigError("--mean-experts and --max-accuracy-drop exclude each other")

    def choose(self, curve: Curve, all_experts: float) -> CurvePoint:
        """The best point of a curve, against the accuracy of all experts."""
        if self.mean_experts is not None:
            return best_within(curve, self.mean_experts)
        drop = DEFAULT_DROP if self.max_accuracy_drop is None else self.max_accuracy_drop
        return cheapest_reaching(curve, all_experts - drop / 100)

    def rank(self, point: CurvePoint) -> tuple[float, float]:
        """Smaller is better."""
        if self.mean_experts is not None:
            return (-point.accuracy, point.mean_experts)
        return (point.mean_experts, -point.accuracy)


@dataclass(frozen=True)
class Candidate:
    """Routers of one kind, how they do, and their best point for the budget."""

    kind: RouterKind
    routers: nn.ModuleList
    scored: ScoredRouter
    curve: Curve
    point: CurvePoint


def kinds_for(
    checkpoint: Checkpoint, router: RouterKind | None, *, everything: bool
) -> tuple[RouterKind, ...]:
    """Which kinds to look at. RIDE's routers are trained, not fitted: the run has them or not."""
    own = checkpoint.config.model.router_kind
    if checkpoint.config.model.num_experts == 1:
        raise ConfigError("a model of one expert has nothing to route")
    if router is RouterKind.RIDE and own is not RouterKind.RIDE:
        raise ConfigError(
            f"this run's routers are of the kind {own}; those of RIDE are trained by ride train"
        )
    if not everything:
        assert router is not None
        return (router,)
    return tuple(kind for kind in RouterKind if kind is not RouterKind.RIDE or kind is own)


def fit_candidate(kind: RouterKind, data: RoutingData, budget: Budget) -> Candidate:
    """Fit routers if they learn, and choose their thresholds."""
    model = data.model
    routers = checkpointed = model.routers
    if kind is not RouterKind.RIDE:
        routers = build_routers(replace(model.config, router_kind=kind), model.experts)
    if kind is RouterKind.DIFFERENCE:
        assert data.views is not None
        _fit_difference(routers, data.views, data.corrections)
    model.routers = routers
    costs = multiply_adds(model, data.image_size)
    model.routers = checkpointed
    scores = [
        router_scores(routers, outputs, _CPU, data.corrections)
        for outputs in (data.calibration, data.test)
    ]
    scored = ScoredRouter(str(kind), costs, *scores)
    calibration = data.calibration_predictions
    curve = scored.curve(calibration)
    return Candidate(kind, routers, scored, curve, budget.choose(curve, calibration.all_experts))


def _fit_difference(routers: nn.ModuleList, views: Outputs, corrections: Float) -> None:
    """Weights go half way to class balance: in full, a rare class's few images decide too much."""
    fit_difference(
        routers,
        torch.from_numpy(views.embeddings),
        torch.from_numpy(prefix_logits(views, corrections)),
        torch.from_numpy(views.labels),
        weights=torch.from_numpy(class_balanced_weights(views.labels)).sqrt(),
    )


def compare_all(candidates: Sequence[Candidate], data: RoutingData) -> list[ComparisonRow]:
    """The candidates side by side, then chance and hindsight."""
    calibration, test = data.calibration_predictions, data.test_predictions
    routers = [*(candidate.scored for candidate in candidates), *_baselines(data)]
    return [compare(router, calibration, test) for router in routers]


def _baselines(data: RoutingData) -> list[ScoredRouter]:
    """Chance and hindsight, which cost nothing but experts."""
    costs = multiply_adds(data.model, data.image_size)
    free = replace(costs, routers=(0,) * len(costs.routers))
    right, test_right = data.calibration_predictions.right, data.test_predictions.right
    experts, images = right.shape
    chance = random_scores(experts, images), random_scores(experts, test_right.shape[1], seed=1)
    return [
        ScoredRouter("random", free, *chance),
        ScoredRouter("oracle", free, oracle_scores(right), oracle_scores(test_right)),
    ]
