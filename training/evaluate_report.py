"""Gathers what `ride evaluate --report` shows: this run, others beside it, every way of routing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from serving.model.curves import Curve, CurvePoint
from serving.model.routing import Routed, RoutingRule
from serving.tracing.terminal import say
from training.checkpoint import Checkpoint, load_finished
from training.costs import multiply_adds
from training.data import Split, read_split
from training.data.loading import plain_batches
from training.errors import CheckpointError, ConfigError
from training.evaluation import Answers, Result, all_experts, result, route_cached
from training.outputs import collect_outputs, router_scores
from training.report import ReportContents, RunResults, refuse_foreign, write_report
from training.route.candidates import Budget, compare_all, fit_candidate, kinds_for
from training.route.data import collect_routing_data
from training.route.images import route_images

BATCH_SIZE = 500


@dataclass(frozen=True)
class ReportRequest:
    """The report's folder, runs to compare with, and runs with other seeds."""

    directory: Path
    baselines: Sequence[Path] = ()
    repeats: Sequence[Path] = ()


@dataclass(frozen=True)
class ReportedRun:
    """A finished run and what the report calls it."""

    name: str
    folder: Path
    checkpoint: Checkpoint


@dataclass(frozen=True)
class ReportPlan:
    """A request that was found to make sense: its runs, read."""

    directory: Path
    run: ReportedRun
    baselines: tuple[ReportedRun, ...]
    repeats: tuple[ReportedRun, ...]


@dataclass(frozen=True)
class _Measured:
    """A run on the test images, and what settings of its thresholds give."""

    results: RunResults
    labels: NDArray[np.int64]
    points: Mapping[str, CurvePoint]


@dataclass(frozen=True)
class _Curves:
    """Accuracy against compute, or else why it is not known."""

    curves: tuple[Curve, ...] = ()
    missing: str = ""


def plan_report(run: Path, request: ReportRequest) -> ReportPlan:
    """Read all runs, and find what is wrong before anything is measured.

    Raises:
        TrainingError: if a run or the report's folder is at fault.
    """
    refuse_foreign(request.directory)
    if not run.is_dir():
        raise ConfigError(f"{run} is a file: name the run's folder, where outputs are kept")
    folders = [run, *request.baselines, *request.repeats]
    runs = [
        ReportedRun(name, folder, load_finished(folder))
        for name, folder in zip(_names(folders), folders, strict=True)
    ]
    for other in runs[1:]:
        _refuse_other_data(runs[0], other)
    middle = 1 + len(request.baselines)
    return ReportPlan(request.directory, runs[0], tuple(runs[1:middle]), tuple(runs[middle:]))


def report_on(
    plan: ReportPlan, *, data: Path, device: torch.device, workers: int, console: Console
) -> None:
    """Measure the runs and write the report.

    Raises:
        TrainingError: if the data or a run's weights are at fault.
    """
    measured = _measure(plan.run, data, device, workers)
    others = [_measure(run, data, device, workers).results for run in plan.baselines]
    repeats = [_measure(run, data, device, workers).results for run in plan.repeats]
    found = _curves(plan.run, data, str(device), workers, console)
    checkpoint = plan.run.checkpoint
    contents = ReportContents(
        title=f"{plan.run.name}: {checkpoint.config.data.dataset}",
        facts=_facts(plan.run, data, len(measured.labels)),
        labels=measured.labels,
        class_names=checkpoint.class_names,
        class_counts=checkpoint.class_counts,
        run=measured.results,
        baselines=tuple(others),
        curves=found.curves,
        curves_missing=found.missing,
        operating_points=measured.points,
        repeated_runs=(measured.results, *repeats) if repeats else (),
    )
    say(console, f"Report: {write_report(contents, plan.directory)}")


def _names(folders: Sequence[Path]) -> list[str]:
    """Folder names; whole paths of those that would be called the same."""
    names = [folder.resolve().name for folder in folders]
    often = Counter(names)
    return [
        name if often[name] == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def _refuse_other_data(run: ReportedRun, other: ReportedRun) -> None:
    """The number of training images may differ: a baseline may have seen more of them."""
    own, others = run.checkpoint, other.checkpoint
    if own.config.data.dataset != others.config.data.dataset:
        raise CheckpointError(
            f"{other.folder} was trained on {others.config.data.dataset}, "
            f"{run.folder} on {own.config.data.dataset}: they can't be compared"
        )
    if own.class_names != others.class_names:
        raise CheckpointError(
            f"{other.folder} knows other classes than {run.folder}: they can't be compared"
        )


def _measure(run: ReportedRun, data: Path, device: torch.device, workers: int) -> _Measured:
    checkpoint = run.checkpoint
    config = checkpoint.config
    model = checkpoint.build_model()
    costs = multiply_adds(model, config.data.image_size)
    images = read_split(data, config.data, Split.TEST, checkpoint.class_names)
    batches = plain_batches(images, config.data, device, BATCH_SIZE, workers=workers)
    outputs = collect_outputs(model, batches, device)
    corrections = checkpoint.prefix_corrections().numpy()
    scores = router_scores(model.routers, outputs, device, corrections)

    def routed_at(thresholds: tuple[float, ...]) -> tuple[Routed, Result]:
        rule = RoutingRule(thresholds, len(model.experts), corrections)
        routed = route_cached(outputs.logits, scores, rule)
        return routed, result(Answers.of(routed), outputs.labels, checkpoint.class_counts, costs)

    routed, counted = routed_at(checkpoint.thresholds)
    results = RunResults(
        name=run.name,
        probabilities=routed.probabilities,
        all_experts=all_experts(outputs.logits, corrections).probabilities,
        experts_used=routed.experts_used,
        mean_multiply_adds=counted.mean_multiply_adds,
        all_experts_multiply_adds=float(costs.all_experts),
    )
    points = {
        name: _point(thresholds, routed_at(thresholds)[1])
        for name, thresholds in _settings(checkpoint).items()
    }
    return _Measured(results, outputs.labels, points)


def _settings(checkpoint: Checkpoint) -> dict[str, tuple[float, ...]]:
    """Thresholds to show by name: those in use, and the gears that `ride route` chose."""
    gears = {f"gear {name}": gear.thresholds for name, gear in checkpoint.gears.items()}
    return {"as evaluated": checkpoint.thresholds, **gears}


def _point(thresholds: tuple[float, ...], measured: Result) -> CurvePoint:
    return CurvePoint(
        thresholds,
        measured.accuracy.overall,
        measured.mean_experts,
        measured.mean_multiply_adds,
    )


def _curves(run: ReportedRun, data: Path, device: str, workers: int, console: Console) -> _Curves:
    """Every router's and baseline's, where there is more than one expert and calibration data."""
    checkpoint = run.checkpoint
    if checkpoint.config.model.num_experts == 1:
        return _Curves(missing="a model of one expert has nothing to route")
    try:
        images = route_images(data, checkpoint.config, checkpoint.class_names, workers=workers)
    except ConfigError as error:
        say(console, f"The report has no accuracy-compute curves: {error}")
        return _Curves(missing=str(error))
    kinds = kinds_for(checkpoint, None, everything=True)
    routing_data = collect_routing_data(
        checkpoint,
        run.folder,
        images,
        device,
        console,
        with_views=True,
        prior_adjustment=checkpoint.prior_adjustment,
    )
    candidates = [fit_candidate(kind, routing_data, Budget()) for kind in kinds]
    return _Curves(tuple(row.curve for row in compare_all(candidates, routing_data)))


def _facts(run: ReportedRun, data: Path, images: int) -> dict[str, str]:
    config, origin = run.checkpoint.config, run.checkpoint.provenance
    routing = run.checkpoint.routing
    facts = {
        "data set": str(config.data.dataset),
        "imbalance factor": str(config.data.imbalance_factor or "as published"),
        "split": f"test, {images:,} images",
        "preset": config.preset,
        "experts": str(config.model.num_experts),
        "router": str(config.model.router_kind),
        "thresholds chosen on": str(routing.get("chosen_on", "not chosen: one for all")),
        "seed": str(config.seed),
        "command": f"ride evaluate {run.folder} --data {data} --report ..",
    }
    known = ("schedule", "commit", "started", "machine", "precision")
    return facts | {name: str(origin[name]) for name in known if name in origin}
