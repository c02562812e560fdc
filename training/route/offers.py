"""What each kind of router has to offer a run: its curve, and the best point for a wish."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from serving.model.curves import Curve, CurvePoint
from serving.model.routing import Float
from training.calibration import best_within, cheapest_reaching, class_balanced
from training.checkpoint import Checkpoint
from training.config import RouterKind
from training.costs import multiply_adds
from training.errors import ConfigError
from training.outputs import Outputs, prefix_logits, router_scores
from training.route.comparison import Contender, Judged
from training.route.material import Material
from training.routers.baselines import oracle_scores, random_scores
from training.routers.build import build_routers
from training.routers.difference import fit_difference

_DEFAULT_DROP = 0.3
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Wish:
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
        drop = _DEFAULT_DROP if self.max_accuracy_drop is None else self.max_accuracy_drop
        return cheapest_reaching(curve, all_experts - drop / 100)

    def rank(self, point: CurvePoint) -> tuple[float, float]:
        """Smaller is better."""
        if self.mean_experts is not None:
            return (-point.accuracy, point.mean_experts)
        return (point.mean_experts, -point.accuracy)


@dataclass(frozen=True)
class Offer:
    """Routers of one kind, how they do, and what they offer for the wish."""

    kind: RouterKind
    routers: nn.ModuleList
    contender: Contender
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


def offer_of(kind: RouterKind, material: Material, calibration: Judged, wish: Wish) -> Offer:
    """Fit routers if they learn, and choose their thresholds."""
    model = material.model
    routers = checkpointed = model.routers
    if kind is not RouterKind.RIDE:
        routers = build_routers(replace(model.config, router_kind=kind), model.experts)
    if kind is RouterKind.DIFFERENCE:
        assert material.views is not None
        _fit_difference(routers, material.views, material.corrections)
    model.routers = routers
    costs = multiply_adds(model, material.image_size)
    model.routers = checkpointed
    scores = [
        router_scores(routers, outputs, _CPU, material.corrections)
        for outputs in (material.calibration, material.test)
    ]
    contender = Contender(str(kind), costs, *scores)
    curve = contender.curve(calibration)
    return Offer(kind, routers, contender, curve, wish.choose(curve, calibration.all_experts))


def _fit_difference(routers: nn.ModuleList, views: Outputs, corrections: Float) -> None:
    """Weights go half way to class balance: in full, a rare class's few images decide too much."""
    fit_difference(
        routers,
        torch.from_numpy(views.embeddings),
        torch.from_numpy(prefix_logits(views, corrections)),
        torch.from_numpy(views.labels),
        weights=torch.from_numpy(class_balanced(views.labels)).sqrt(),
    )


def baselines(material: Material, calibration: Judged) -> list[Contender]:
    """Chance and hindsight, which cost nothing but experts."""
    costs = multiply_adds(material.model, material.image_size)
    free = replace(costs, routers=(0,) * len(costs.routers))
    right, test_right = calibration.right, material.judged_test().right
    experts, images = right.shape
    chance = random_scores(experts, images), random_scores(experts, test_right.shape[1], seed=1)
    return [
        Contender("random", free, *chance),
        Contender("oracle", free, oracle_scores(right), oracle_scores(test_right)),
    ]
