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
from training.calibration import gears
from training.checkpoint import Checkpoint, load_finished, save_checkpoint
from training.config import RouterKind
from training.errors import ConfigError
from training.progress import say
from training.route.comparison import BUDGETS, ComparisonRow, Contender, Judged, compare, draw
from training.route.images import route_images
from training.route.material import Material, collect_material
from training.route.offers import Offer, Wish, baselines, kinds_for, offer_of

CURVE_FILE = "curve.svg"


def route_session(
    run: Path,
    *,
    data: Path,
    router: RouterKind | None,
    wish: Wish,
    prior_adjustment: float | None,
    with_comparison: bool,
    save: bool,
    workers: int,
    device: str,
    console: Console,
) -> None:
    """Choose router and thresholds for a finished run, and `save` them in its checkpoint.

    Without a `router`, the best of all for the wish on the calibration images is chosen; without
    a `prior_adjustment`, the best there.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    checkpoint = load_finished(run)
    kinds = kinds_for(checkpoint, router, everything=with_comparison or router is None)
    if not run.is_dir():
        raise ConfigError(f"{run} is a file: name the run's folder, where outputs are kept")
    images = route_images(data, checkpoint.config, workers=workers)
    with_views = RouterKind.DIFFERENCE in kinds
    material = collect_material(
        checkpoint,
        run,
        images,
        device,
        console,
        with_views=with_views,
        prior_adjustment=prior_adjustment,
    )
    if prior_adjustment is None:
        say(console, f"Prior adjustment: {material.prior_adjustment:g}.")
    calibration, test = material.judged_calibration(), material.judged_test()
    offers = [offer_of(kind, material, calibration, wish) for kind in kinds]
    if with_comparison:
        contenders = [*(offer.contender for offer in offers), *baselines(material, calibration)]
        _show([compare(each, calibration, test) for each in contenders], test, run, console)
    eligible = [offer for offer in offers if router in {None, offer.kind}]
    chosen = min(eligible, key=lambda offer: wish.rank(offer.point))
    say(console, _verdict(chosen, test))
    if save:
        _store(checkpoint, material, chosen, calibration, test, images.calibration_source)
        save_checkpoint(checkpoint, run)
        say(console, f"Saved. Next: ride evaluate {run} --data {data}")


def _store(
    checkpoint: Checkpoint,
    material: Material,
    chosen: Offer,
    calibration: Judged,
    test: Judged,
    source: str,
) -> None:
    """Put prior adjustment, router, thresholds and gears into the checkpoint."""
    model = material.model
    network = replace(checkpoint.config.model, router_kind=chosen.kind)
    model.routers = chosen.routers
    checkpoint.config = replace(checkpoint.config, model=network)
    checkpoint.model = model.state_dict()
    found = gears(chosen.curve, calibration.all_experts)
    checkpoint.routing = {
        "prior_adjustment": material.prior_adjustment,
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


def _verdict(chosen: Offer, test: Judged) -> str:
    point = chosen.contender.on_test(chosen.point.thresholds, test)
    thresholds = ", ".join(f"{threshold:.4g}" for threshold in point.thresholds)
    return (
        f"{chosen.kind}, thresholds {thresholds}: {100 * point.accuracy:.1f} % with "
        f"{point.mean_experts:.2f} experts on the test images "
        f"(all experts: {100 * test.all_experts:.1f} %)."
    )
