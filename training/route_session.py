"""What `ride route` does, apart from reading its flags.

The experts run once on each set of images; their outputs are kept in the run's folder. All the
rest, fitting routers, choosing thresholds and comparing, works on what was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from serving.routing import Float
from training.calibration import (
    best_within,
    cheapest_reaching,
    class_balanced,
    experts_used,
    gears,
)
from training.checkpoint import Checkpoint, load_finished, save_checkpoint
from training.config import Precision, RouterKind
from training.costs import multiply_adds
from training.curves import Curve, CurvePoint
from training.device import choose_machine
from training.errors import ConfigError
from training.evaluation import accuracy_by_shot
from training.model import RideModel
from training.outputs import (
    Outputs,
    collect_outputs,
    experts_digest,
    load_outputs,
    prefix_logits,
    prefix_predictions,
    router_scores,
    save_outputs,
)
from training.route_comparison import BUDGETS, ComparisonRow, Contender, Judged, compare, draw
from training.route_images import ImageBatches, RouteImages, route_images
from training.routers.baselines import oracle_scores, random_scores
from training.routers.build import build_routers
from training.routers.difference import fit_difference

CURVE_FILE = "curve.svg"
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
class Material:
    """What routers are fitted, chosen and measured on; everything on the CPU."""

    model: RideModel
    corrections: Float
    views: Outputs | None
    calibration: Outputs
    test: Outputs

    def judged_calibration(self) -> Judged:
        """The test split is balanced, so calibration images count as if they were."""
        labels = self.calibration.labels
        predictions = prefix_predictions(self.calibration, self.corrections)
        return Judged(predictions, labels, class_balanced(labels))

    def judged_test(self) -> Judged:
        """Every image counts the same."""
        return Judged(prefix_predictions(self.test, self.corrections), self.test.labels)


@dataclass(frozen=True)
class Offer:
    """Routers of one kind, how they do, and what they offer for the wish."""

    kind: RouterKind
    routers: nn.ModuleList
    contender: Contender
    curve: Curve
    point: CurvePoint


def route_session(
    run: Path,
    *,
    data: Path,
    router: RouterKind | None,
    wish: Wish,
    with_comparison: bool,
    save: bool,
    device: str,
    console: Console,
) -> None:
    """Choose router and thresholds for a finished run, and `save` them in its checkpoint.

    Without a `router`, the best of all for the wish on the calibration images is chosen.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    checkpoint = load_finished(run)
    kinds = _kinds(checkpoint, router, everything=with_comparison or router is None)
    if not run.is_dir():
        raise ConfigError(f"{run} is a file: name the run's folder, where outputs are kept")
    images = route_images(data, checkpoint.config)
    with_views = RouterKind.DIFFERENCE in kinds
    material = _collect(checkpoint, run, images, device, console, with_views=with_views)
    calibration, test = material.judged_calibration(), material.judged_test()
    offers = [_offer(kind, material, calibration, wish) for kind in kinds]
    if with_comparison:
        contenders = [*(offer.contender for offer in offers), *_baselines(material, calibration)]
        _show([compare(each, calibration, test) for each in contenders], test, run, console)
    eligible = [offer for offer in offers if router in {None, offer.kind}]
    chosen = min(eligible, key=lambda offer: wish.rank(offer.point))
    _say(console, _verdict(chosen, test))
    if save:
        _store(checkpoint, material.model, chosen, calibration, test, images.calibration_source)
        save_checkpoint(checkpoint, run)
        _say(console, f"Saved. Next: ride evaluate {run} --data {data}")


class RouteOutputs:
    """Experts' outputs, from the run's folder or else from the experts."""

    def __init__(self, run: Path, model: RideModel, device: torch.device, console: Console) -> None:
        self._run = run
        self._model = model
        self._device = device
        self._console = console
        self._digest = experts_digest(model)

    def of(self, images: ImageBatches) -> Outputs:
        """Those of a set of images."""
        path = self._run / f"outputs-{images.name}.npz"
        key = f"{self._digest} {images.fingerprint}"
        kept = load_outputs(key, path)
        if kept is not None:
            return kept
        batches = track(
            images.batches(),
            f"experts on {images.images:,} {images.name} images",
            console=self._console,
            transient=True,
        )
        collected = collect_outputs(self._model, batches, self._device)
        save_outputs(collected, key, path)
        return collected


def _kinds(
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


def _collect(
    checkpoint: Checkpoint,
    run: Path,
    images: RouteImages,
    device: str,
    console: Console,
    *,
    with_views: bool,
) -> Material:
    machine = choose_machine(device, Precision.FP32)
    model = checkpoint.build_model()
    outputs = RouteOutputs(run, model, machine.device, console)
    return Material(
        views=outputs.of(images.views) if with_views else None,
        calibration=outputs.of(images.calibration),
        test=outputs.of(images.test),
        corrections=checkpoint.prefix_corrections().numpy(),
        model=model.to(_CPU),
    )


def _offer(kind: RouterKind, material: Material, calibration: Judged, wish: Wish) -> Offer:
    """Fit routers if they learn, and choose their thresholds."""
    model = material.model
    routers = checkpointed = model.routers
    if kind is not RouterKind.RIDE:
        routers = build_routers(replace(model.config, router_kind=kind), model.experts)
    if kind is RouterKind.DIFFERENCE:
        assert material.views is not None
        _fit_difference(routers, material.views, material.corrections)
    model.routers = routers
    costs = multiply_adds(model)
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


def _baselines(material: Material, calibration: Judged) -> list[Contender]:
    """Chance and hindsight, which cost nothing but experts."""
    costs = multiply_adds(material.model)
    free = replace(costs, routers=(0,) * len(costs.routers))
    right, test_right = calibration.right, material.judged_test().right
    experts, images = right.shape
    chance = random_scores(experts, images), random_scores(experts, test_right.shape[1], seed=1)
    return [
        Contender("random", free, *chance),
        Contender("oracle", free, oracle_scores(right), oracle_scores(test_right)),
    ]


def _store(
    checkpoint: Checkpoint,
    model: RideModel,
    chosen: Offer,
    calibration: Judged,
    test: Judged,
    source: str,
) -> None:
    """Put router, thresholds and gears into the checkpoint."""
    network = replace(checkpoint.config.model, router_kind=chosen.kind)
    model.routers = chosen.routers
    checkpoint.config = replace(checkpoint.config, model=network)
    checkpoint.model = model.state_dict()
    found = gears(chosen.curve, calibration.all_experts)
    checkpoint.routing = {
        "thresholds": list(chosen.point.thresholds),
        "gears": {
            name: _gear(checkpoint, chosen.contender, thresholds, test)
            for name, thresholds in found.items()
        },
        "chosen_on": source,
    }


def _gear(
    checkpoint: Checkpoint, contender: Contender, thresholds: tuple[float, ...], test: Judged
) -> dict[str, Any]:
    """As the manifest has it, measured on the test images."""
    point = contender.on_test(thresholds, test)
    last = experts_used(thresholds, contender.test) - 1
    predicted = test.predictions[last, np.arange(len(last))]
    return {
        "thresholds": list(thresholds),
        "mean_experts": point.mean_experts,
        "mean_multiply_adds": point.mean_multiply_adds,
        "accuracy": asdict(accuracy_by_shot(predicted, test.labels, checkpoint.class_counts)),
        "measured_on": f"{len(last):,} test images of {checkpoint.config.data.dataset}",
    }


def _show(rows: Sequence[ComparisonRow], test: Judged, run: Path, console: Console) -> None:
    """Print the table and draw the curves."""
    table = Table(
        title=f"{len(test.labels):,} test images; all experts: {100 * test.all_experts:.1f} %",
        caption="accuracy in %, and mean experts as they turned out",
    )
    table.add_column("router")
    for title in ("0.3 points below", *(f"{budget:g} experts" for budget in BUDGETS)):
        table.add_column(title, justify="right")
    for row in rows:
        points = (row.near_full, *row.at_budgets)
        cells = [f"{100 * point.accuracy:.1f} ({point.mean_experts:.2f})" for point in points]
        table.add_row(row.name, *cells)
    console.print(table)
    draw([row.curve for row in rows], test.all_experts, run / CURVE_FILE)
    _say(console, f"Drawn to {run / CURVE_FILE}.")


def _verdict(chosen: Offer, test: Judged) -> str:
    point = chosen.contender.on_test(chosen.point.thresholds, test)
    thresholds = ", ".join(f"{threshold:.4g}" for threshold in point.thresholds)
    return (
        f"{chosen.kind}, thresholds {thresholds}: {100 * point.accuracy:.1f} % with "
        f"{point.mean_experts:.2f} experts on the test images "
        f"(all experts: {100 * test.all_experts:.1f} %)."
    )


def _say(console: Console, text: str) -> None:
    """Print it as it is: a path may hold brackets, and a command is copied in one piece."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
