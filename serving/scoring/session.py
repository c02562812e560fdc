"""What `ride score` does, apart from reading its flags."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from serving.classification import check_top_k
from serving.engine import Engine, load_engine
from serving.interrupt import InterruptFlag
from serving.providers import Provider
from serving.routing import RoutingRule
from serving.scoring import journal
from serving.scoring.budget import solve
from serving.scoring.errors import InputError, OutputError, ScoringError, ScoringStopped
from serving.scoring.inputs.opening import Inputs, open_inputs
from serving.scoring.journal import DonePart, Journal
from serving.scoring.output import SCHEMA_VERSION, PartWriter, true_classes
from serving.scoring.parts import Kept, Part
from serving.scoring.pipeline import Pipeline, PipelineSettings
from serving.scoring.progress import ScoringProgress
from serving.scoring.reading import ShardTask
from serving.scoring.summary import Counts, summary

_BATCH_ON_CPU = 64
_BATCH_ON_ACCELERATOR = 256
_MOST_PART_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Routing:
    """How far images go, as it was asked for; at most one of the four but `max_experts`."""

    quality: str | None = None
    threshold: float | None = None
    max_experts: int | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        given = [self.quality, self.threshold, self.budget]
        if sum(wish is not None for wish in given) > 1:
            raise ScoringError("give one of --quality, --threshold and --budget")
        if self.budget is not None and self.max_experts is not None:
            raise ScoringError("--budget chooses how many experts images take: no --max-experts")


@dataclass(frozen=True)
class ScoringRequest:
    """What to score, with what, and where to.

    Attributes:
        inputs: folders, globs, files and URLs.
        output: the folder.
        repository: the model repository; its latest version answers.
        kept: what is kept of an answer.
        column: of the images; None to find it.
        labels: column of the labels; None for none.
        routing: how far images go.
        part_rows: rows of a part, at most.
        provider: where graphs run.
        workers: threads; 0 for one a core.
        batch_size: rows of a full batch; None for what suits the provider.
        resume: go on although lists, Parquet or tar files were written anew.
        overwrite: remove what another run has written.
    """

    inputs: tuple[str, ...]
    output: Path
    repository: Path
    kept: Kept
    column: str | None = None
    labels: str | None = None
    routing: Routing = Routing()
    part_rows: int = 5000
    provider: Provider = Provider.CPU
    workers: int = 0
    batch_size: int | None = None
    resume: bool = False
    overwrite: bool = False

    @property
    def threads(self) -> int:
        """Workers, resolved."""
        if hasattr(os, "sched_getaffinity"):
            return self.workers or len(os.sched_getaffinity(0))
        return self.workers or os.cpu_count() or 1

    @property
    def rows_of_a_batch(self) -> int:
        """The batch size, resolved."""
        on_cpu = self.provider is Provider.CPU
        return self.batch_size or (_BATCH_ON_CPU if on_cpu else _BATCH_ON_ACCELERATOR)


def score_session(request: ScoringRequest, console: Console) -> dict[str, Any]:
    """Score all that is left of the inputs; returns the summary.

    Raises:
        ScoringError: for inputs or an output that can't be used, or when it was stopped.
        RideError: if the repository can't be served, or the runtime fails.
    """
    engine = load_engine(request.repository, provider=request.provider)
    check_top_k(engine.manifest, request.kept.top_k)
    part_rows = _part_rows(request, engine)
    inputs = open_inputs(request.inputs, request.column, request.labels, part_rows)
    if inputs.repeated:
        _say(console, f"{inputs.repeated:,} files are named more than once, and scored once")
    with journal.locked(request.output):
        journal.remove_leftovers(request.output)
        run = _agreed_run(request, engine, inputs, part_rows)
        return _Scoring(request, engine, inputs, run, console).finish()


def _part_rows(request: ScoringRequest, engine: Engine) -> int:
    fitting = _MOST_PART_BYTES // request.kept.bytes_a_row(engine.manifest.num_classes)
    return max(1, min(request.part_rows, fitting))


def _agreed_run(
    request: ScoringRequest, engine: Engine, inputs: Inputs, part_rows: int
) -> dict[str, Any]:
    """What run the folder holds, which is the one that is asked for; written if it is new."""
    folder, found = request.output, journal.read_run(request.output)
    asked = _run(request, engine, inputs, part_rows)
    if found is not None and request.overwrite:
        journal.clear(folder)
        found = None
    if found is not None:
        _require_same(folder, found, asked, resume=request.resume)
        return found
    budget = request.routing.budget
    rule = _asked_rule(request.routing, engine)
    if budget is not None:
        solved = solve(
            engine,
            inputs.shards,
            budget,
            workers=request.threads,
            batch_size=request.rows_of_a_batch,
        )
        rule = replace(rule, thresholds=solved.thresholds)
        asked["budget"] = {"mean_experts": solved.mean_experts, "images": solved.images}
    asked["rule"] = {"thresholds": list(rule.thresholds), "max_experts": rule.max_experts}
    journal.write_run(folder, asked)
    return asked


def _run(request: ScoringRequest, engine: Engine, inputs: Inputs, part_rows: int) -> dict[str, Any]:
    """What the run is: all that its rows depend on, and when it began."""
    _asked_rule(request.routing, engine)  # nothing is written for a wish that can't be fulfilled
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ride_version": version("ride-server"),
        "model": {
            "version": engine.version,
            "precision": engine.manifest.precision,
            "graphs": sorted(engine.manifest.graphs.values()),
        },
        "routing": vars(request.routing),
        "settings": {
            **vars(request.kept),
            "part_rows": part_rows,
            "column": request.column,
            "labels": request.labels,
        },
        "inputs": {
            "arguments": list(request.inputs),
            "images": inputs.images,
            "listing": inputs.listing,
            "stamps": inputs.stamps,
        },
    }


def _asked_rule(routing: Routing, engine: Engine) -> RoutingRule:
    return engine.rule(routing.max_experts, routing.threshold, routing.quality)


def _require_same(
    folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any], *, resume: bool
) -> None:
    """Raise OutputError unless the folder's run would give the very rows that are asked for."""
    what = {
        "schema_version": "another version of ride",
        "model": "another model",
        "routing": "other thresholds or budgets",
        "settings": "other columns or settings",
    }
    for key, other in what.items():
        if found.get(key) != asked[key]:
            raise OutputError(
                f"{folder} holds a run with {other}: name another folder, or write over it by "
                "--overwrite"
            )
    inputs = found.get("inputs")
    if not isinstance(inputs, dict) or inputs.get("listing") != asked["inputs"]["listing"]:
        raise OutputError(
            f"{folder} holds a run over other inputs (or some were added or removed): name another "
            "folder, or write over it by --overwrite"
        )
    if inputs.get("stamps") != asked["inputs"]["stamps"] and not resume:
        raise OutputError(
            f"the inputs of the run in {folder} were written anew since it began: --resume goes on "
            "if they hold the same images, --overwrite begins again"
        )


class _Scoring:
    """One start of a run, from what is done to the summary."""

    def __init__(
        self,
        request: ScoringRequest,
        engine: Engine,
        inputs: Inputs,
        run: Mapping[str, Any],
        console: Console,
    ) -> None:
        self._request = request
        self._engine = engine
        self._inputs = inputs
        self._run = run
        self._console = console
        self._done = journal.done_parts(request.output)
        self._writer = PartWriter(
            request.output,
            engine.manifest,
            request.kept,
            request.labels is not None,
            {key: run[key] for key in ("schema_version", "ride_version", "model", "rule")},
        )

    def finish(self) -> dict[str, Any]:
        """Score what is left and write the summary."""
        folder = self._request.output
        tasks = self._tasks()
        before = self._counts().images
        if not tasks and (found := journal.read_summary(folder)) is not None:
            _say(self._console, f"{folder} is finished already: {before:,} images")
            return found
        started = time.monotonic()
        if tasks:
            self._score(tasks, before)
        counts = self._counts()
        if not counts.images:
            raise InputError(
                f"there is nothing to score: no images in {', '.join(self._request.inputs)}"
            )
        found = summary(
            counts,
            self._engine.manifest,
            labelled=self._request.labels is not None,
            scored=counts.images - before,
            seconds=time.monotonic() - started,
        )
        document = {"model": dict(self._run["model"]), "rule": self._run["rule"], **found}
        journal.write_summary(folder, document)
        return document

    def _score(self, tasks: Sequence[ShardTask], before: int) -> None:
        request = self._request
        settings = PipelineSettings(
            request.kept,
            self._run["settings"]["part_rows"],
            request.rows_of_a_batch,
            request.threads,
        )
        rule = self._run["rule"]
        agreed = replace(
            self._engine.rule(),
            thresholds=tuple(rule["thresholds"]),
            max_experts=rule["max_experts"],
        )
        with Journal(request.output) as lines, InterruptFlag() as interrupt:
            pipeline = Pipeline(
                self._engine, agreed, settings, lambda part: self._keep(part, lines)
            )
            with ScoringProgress(self._console, before, self._inputs.images) as bar:

                def watch() -> bool:
                    seen = pipeline.progress
                    bar.show(seen.rows, seen.experts / seen.answered if seen.answered else None)
                    return interrupt.requested

                whole = pipeline.run(tasks, watch)
        if not whole:
            raise ScoringStopped(
                f"stopped: {self._counts().images:,} images are in {request.output}; "
                "the same command goes on from there"
            )

    def _keep(self, part: Part, lines: Journal) -> None:
        truth = true_classes(part.labels, self._engine.manifest)
        size = self._writer.write(part, truth)
        counts = Counts.of(part, truth, self._engine.manifest)
        done = DonePart(part.key, size, part.last, counts)
        lines.add(done)
        self._done[part.key] = done

    def _tasks(self) -> list[ShardTask]:
        """The shards of which something is left."""
        numbers: dict[int, set[int]] = {}
        ends: dict[int, int] = {}
        for key, part in self._done.items():
            numbers.setdefault(key.shard, set()).add(key.number)
            if part.last:
                ends[key.shard] = key.number
        return [
            ShardTask(i, shard, frozenset(numbers.get(i, ())))
            for i, shard in enumerate(self._inputs.shards)
            if i not in ends or len(numbers[i]) < ends[i] + 1
        ]

    def _counts(self) -> Counts:
        counts = [part.counts for part in self._done.values()]
        return Counts.total(counts, self._engine.manifest.num_experts)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)  # a path may hold brackets
