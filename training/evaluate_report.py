"""Gathers what `ride evaluate --report` shows: this run, others beside it, every way of routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from serving.routing import Routed, RoutingRule
from training.checkpoint import Checkpoint, load_finished
from training.costs import multiply_adds
from training.curves import Curve, CurvePoint
from training.data import Split, read_split
from training.data.loading import plain_batches
from training.errors import CheckpointError, ConfigError
from training.evaluation import Answers, Result, all_experts, result, route_cached
from training.outputs import collect_outputs, router_scores
from training.progress import say
from training.report import ReportContents, RunResults, write_report
from training.route.comparison import compare
from training.route.images import route_images
from training.route.material import collect_material
from training.route.offers import Wish, baselines, kinds_for, offer_of

BATCH_SIZE = 500


@dataclass(frozen=True)
class ReportRequest:
    """The report's folder, runs to compare with, and runs with other seeds."""

    directory: Path
    baselines: Sequence[Path] = ()
    repeats: Sequence[Path] = ()


@dataclass(frozen=True)
class _Measured:
    """A run on the test images, and what its thresholds give."""

    results: RunResults
    routed: Result
    labels: NDArray[np.int64]


def report_on(
    run: Path,
    request: ReportRequest,
    *,
    data: Path,
    device: torch.device,
    workers: int,
    console: Console,
) -> None:
    """Write the report of a finished run.

    Raises:
        TrainingError: if a run, its data or the report's folder is at fault.
    """
    checkpoint = load_finished(run)
    if not run.is_dir():
        raise ConfigError(f"{run} is a file: name the run's folder, where outputs are kept")
    measured = _measure(run, data, device, workers)
    others = [_measure(path, data, device, workers) for path in request.baselines]
    repeats = [_measure(path, data, device, workers) for path in request.repeats]
    for other, path in zip(
        [*others, *repeats], [*request.baselines, *request.repeats], strict=True
    ):
        if not np.array_equal(other.labels, measured.labels):
            raise CheckpointError(f"{path} was not trained on the data set of {run}")
    contents = ReportContents(
        title=f"{run.name}: {checkpoint.config.data.dataset}",
        facts=_facts(checkpoint, run, data, len(measured.labels)),
        labels=measured.labels,
        class_names=checkpoint.class_names,
        class_counts=checkpoint.class_counts,
        run=measured.results,
        baselines=tuple(other.results for other in others),
        curves=_curves(checkpoint, run, data, str(device), workers, console),
        operating_points={"as evaluated": _point(checkpoint, measured.routed)},
        repeated_runs=(measured.results, *(other.results for other in repeats)) if repeats else (),
    )
    say(console, f"Report: {write_report(contents, request.directory)}")


def _measure(run: Path, data: Path, device: torch.device, workers: int) -> _Measured:
    checkpoint = load_finished(run)
    config = checkpoint.config
    model = checkpoint.build_model()
    costs = multiply_adds(model, config.data.image_size)
    images = read_split(data, config.data, Split.TEST)
    batches = plain_batches(images, config.data, device, BATCH_SIZE, workers=workers)
    outputs = collect_outputs(model, batches, device)
    corrections = checkpoint.prefix_corrections().numpy()
    scores = router_scores(model.routers, outputs, device, corrections)
    rule = RoutingRule(checkpoint.thresholds, len(model.experts), corrections)
    routed = route_cached(outputs.logits, scores, rule)
    full: Routed = all_experts(outputs.logits, corrections)
    counted = result(Answers.of(routed), outputs.labels, checkpoint.class_counts, costs)
    results = RunResults(
        name=run.name,
        probabilities=routed.probabilities,
        all_experts=full.probabilities,
        experts_used=routed.experts_used,
        mean_multiply_adds=counted.mean_multiply_adds,
        all_experts_multiply_adds=float(costs.all_experts),
    )
    return _Measured(results, counted, outputs.labels)


def _curves(
    checkpoint: Checkpoint, run: Path, data: Path, device: str, workers: int, console: Console
) -> tuple[Curve, ...]:
    """Every router's and baseline's, where there is more than one expert and calibration data."""
    if checkpoint.config.model.num_experts == 1:
        return ()
    try:
        images = route_images(data, checkpoint.config, workers=workers)
    except ConfigError as error:
        say(console, f"The report has no accuracy-compute curves: {error}")
        return ()
    kinds = kinds_for(checkpoint, None, everything=True)
    material = collect_material(checkpoint, run, images, device, console, with_views=True)
    calibration, test = material.judged_calibration(), material.judged_test()
    offers = [offer_of(kind, material, calibration, Wish()) for kind in kinds]
    contenders = [*(offer.contender for offer in offers), *baselines(material, calibration)]
    return tuple(compare(contender, calibration, test).curve for contender in contenders)


def _point(checkpoint: Checkpoint, routed: Result) -> CurvePoint:
    return CurvePoint(
        checkpoint.thresholds,
        routed.accuracy.overall,
        routed.mean_experts,
        routed.mean_multiply_adds,
    )


def _facts(checkpoint: Checkpoint, run: Path, data: Path, images: int) -> dict[str, str]:
    config, origin = checkpoint.config, checkpoint.provenance
    facts = {
        "data set": str(config.data.dataset),
        "imbalance factor": str(config.data.imbalance_factor or "as published"),
        "split": f"test, {images:,} images",
        "preset": config.preset,
        "experts": str(config.model.num_experts),
        "router": str(config.model.router_kind),
        "thresholds chosen on": str(checkpoint.routing.get("chosen_on", "not chosen: one for all")),
        "seed": str(config.seed),
        "command": f"ride evaluate {run} --data {data} --report ..",
    }
    known = ("schedule", "commit", "started", "machine", "precision")
    return facts | {name: str(origin[name]) for name in known if name in origin}
