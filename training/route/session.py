"""What `ride route` does, apart from reading its flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from serving.model.shot_groups import accuracy_by_shot
from serving.model.thresholds import experts_used
from serving.tracing.terminal import say
from training.calibration import gears
from training.checkpoint import Checkpoint, load_finished, save_checkpoint
from training.choices import RouterKind
from training.errors import ConfigError
from training.route.candidates import Budget, Candidate, compare_all, fit_candidate, kinds_for
from training.route.comparison import BUDGETS, ComparisonRow, PrefixPredictions, ScoredRouter, draw
from training.route.data import RoutingData, collect_routing_data
from training.route.images import route_images

CURVE_FILE = "curve.svg"


def route_session(
    run: Path,
    *,
    data: Path,
    router: RouterKind | None,
    budget: Budget,
    prior_adjustment: float | None,
    with_comparison: bool,
    save: bool,
    workers: int,
    device: str,
    console: Console,
) -> None:
    """Choose router and thresholds for a finished run, and `save` them in its checkpoint.

    Without a `router`, the best of all for the budget on the calibration images is chosen; without
    a `prior_adjustment`, the best there.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    checkpoint = load_finished(run)
    kinds = kinds_for(checkpoint, router, everything=with_comparison or router is None)
    if not run.is_dir():
        raise ConfigError(f"{run} is a file: name the run's folder, where outputs are kept")
    images = route_images(data, checkpoint.config, checkpoint.class_names, workers=workers)
    routing_data = collect_routing_data(
        checkpoint,
        run,
        images,
        device,
        console,
        with_views=RouterKind.DIFFERENCE in kinds,
        prior_adjustment=prior_adjustment,
    )
    if prior_adjustment is None:
        say(console, f"Prior adjustment: {routing_data.prior_adjustment:g}.")
    candidates = [fit_candidate(kind, routing_data, budget) for kind in kinds]
    test = routing_data.test_predictions
    if with_comparison:
        _show(compare_all(candidates, routing_data), test, run, console)
    eligible = [candidate for candidate in candidates if router in {None, candidate.kind}]
    chosen = min(eligible, key=lambda candidate: budget.rank(candidate.point))
    say(console, _verdict(chosen, test))
    if save:
        _store(checkpoint, routing_data, chosen, images.calibration_source)
        save_checkpoint(checkpoint, run)
        say(console, f"Saved. Next: ride evaluate {run} --data {data}")


def _store(
    checkpoint: Checkpoint, routing_data: RoutingData, chosen: Candidate, source: str
) -> None:
    """Put prior adjustment, router, thresholds and gears into the checkpoint."""
    model, test = routing_data.model, routing_data.test_predictions
    network = replace(checkpoint.config.model, router_kind=chosen.kind)
    model.routers = chosen.routers
    checkpoint.config = replace(checkpoint.config, model=network)
    checkpoint.model = model.state_dict()
    found = gears(chosen.curve, routing_data.calibration_predictions.all_experts)
    checkpoint.routing = {
        "prior_adjustment": routing_data.prior_adjustment,
        "thresholds": list(chosen.point.thresholds),
        "gears": {
            name: _gear(checkpoint, chosen.scored, thresholds, test)
            for name, thresholds in found.items()
        },
        "chosen_on": source,
    }


def _gear(
    checkpoint: Checkpoint,
    scored: ScoredRouter,
    thresholds: tuple[float, ...],
    test: PrefixPredictions,
) -> dict[str, Any]:
    """As the manifest has it, measured on the test images."""
    point = scored.on_test(thresholds, test)
    last = experts_used(thresholds, scored.test) - 1
    predicted = test.predictions[last, np.arange(len(last))]
    return {
        "thresholds": list(thresholds),
        "mean_experts": point.mean_experts,
        "mean_multiply_adds": point.mean_multiply_adds,
        "accuracy": asdict(accuracy_by_shot(predicted, test.labels, checkpoint.class_counts)),
        "measured_on": f"{len(last):,} test images of {checkpoint.config.data.dataset}",
    }


def _show(
    rows: Sequence[ComparisonRow], test: PrefixPredictions, run: Path, console: Console
) -> None:
    """Print the table and draw the curves."""
    table = Table(
        title=f"{len(test.labels):,} test images; all experts: {100 * test.all_experts:.1f} %",
        caption="accuracy in %; in brackets the mean experts that it took",
    )
    table.add_column("router")
    for title in ("0.3 points below", *(f"{budget:g} experts" for budget in BUDGETS)):
        table.add_column(title, justify="right")
    for row in rows:
        near = f"{100 * row.near_full.accuracy:.1f} ({row.near_full.mean_experts:.2f})"
        table.add_row(row.name, near, *(f"{100 * point.accuracy:.1f}" for point in row.at_budgets))
    console.print(table)
    draw([row.curve for row in rows], test.all_experts, run / CURVE_FILE)
    say(console, f"Drawn to {run / CURVE_FILE}.")


def _verdict(chosen: Candidate, test: PrefixPredictions) -> str:
    point = chosen.scored.on_test(chosen.point.thresholds, test)
    thresholds = ", ".join(f"{threshold:.4g}" for threshold in point.thresholds)
    return (
        f"{chosen.kind}, thresholds {thresholds}: {100 * point.accuracy:.1f} % with "
        f"{point.mean_experts:.2f} experts on the test images "
        f"(all experts: {100 * test.all_experts:.1f} %)."
    )
