"""What `ride score` does, apart from reading its flags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

from scoring import journal
from scoring.errors import InputError, OutputError, ScoringStopped
from scoring.inputs.opening import SCORED_PARTS, Inputs, open_inputs
from scoring.journal import DonePart, Journal
from scoring.layout import PARTS_FOLDER
from scoring.pipeline import ScoringProgress
from scoring.progress import scoring_progress
from scoring.reader import ShardTask
from scoring.request import ScoringRequest
from scoring.run_manifest import ScoringRun, begin_or_resume
from scoring.scorer import Scorer, ThreadScorer
from scoring.summary import RowCounts, summarize
from serving.engine.graphs import Engine, load_engine
from serving.images.formats import suffixes
from serving.interrupt import InterruptFlag
from serving.model.top_k import check_top_k
from serving.tracing.terminal import say

_MOST_PART_BYTES = 32 * 2**20


def score_session(request: ScoringRequest, console: Console) -> dict[str, Any]:
    """Score all that is left of the inputs; returns the summary.

    Raises:
        ScoringError: for inputs or an output that can't be used, or when it was stopped.
        RideError: if the repository can't be served, or the runtime fails.
    """
    engine = load_engine(request.repository, provider=request.provider)
    check_top_k(engine.manifest, request.kept.top_k)
    part_rows = _part_rows(request, engine)
    inputs = _opened(request, part_rows)
    if inputs.repeated:
        say(console, f"{inputs.repeated:,} files are named more than once, and scored once")
    for each in inputs.lists:
        say(console, str(each))
    if scored_parts := inputs.left_out.get(SCORED_PARTS):
        say(console, f"left out: {scored_parts:,} files that ride score wrote itself")
    with journal.locked(request.output), InterruptFlag() as interrupt:
        journal.remove_leftovers(request.output)

        def stop() -> bool:
            return interrupt.requested

        run = begin_or_resume(request, engine, inputs, part_rows, stop)
        with _as_it_began(request, inputs, run) as (worded, named):
            if request.resume:  # from now on, what was written anew is what the run is about
                journal.write_inputs(worded.output, inputs.files)
            return _Scoring(worded, engine, named, run, console).finish(stop)


def _opened(request: ScoringRequest, part_rows: int) -> Inputs:
    endings = suffixes(request.limits.formats)
    return open_inputs(request.inputs, request.column, request.labels, part_rows, endings)


@contextmanager
def _as_it_began(
    request: ScoringRequest, inputs: Inputs, run: ScoringRun
) -> Iterator[tuple[ScoringRequest, Inputs]]:
    """The request and inputs in the words that the run began with, so that all its ids are alike.

    Where these are others than now, the command works in the folder where they were typed.

    Raises:
        OutputError: if they don't give the inputs any more.
    """
    words = run.wording
    if words.listing == inputs.listing:
        yield request, inputs
        return
    worded = replace(
        request,
        inputs=words.arguments,
        output=request.output.absolute(),
        repository=request.repository.absolute(),
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(chdir(words.folder))
            named = _opened(worded, run.part_rows)
        except (OSError, InputError) as error:
            raise OutputError(
                f"{request.output} holds a run that was begun in {words.folder}, where its inputs "
                f"{' '.join(words.arguments)} are not found any more: {error}"
            ) from error
        if named.listing != words.listing:
            raise OutputError(
                f"the inputs of the run in {request.output} hold other numbers of images than when "
                "it began: name another folder, or write over it by --overwrite"
            )
        yield worded, named


def _part_rows(request: ScoringRequest, engine: Engine) -> int:
    fitting = _MOST_PART_BYTES // request.kept.bytes_a_row(engine.manifest.num_classes)
    return max(1, min(request.part_rows, fitting))


class _Scoring:
    """One start of a run, from what is done to the summary."""

    def __init__(
        self,
        request: ScoringRequest,
        engine: Engine,
        inputs: Inputs,
        run: ScoringRun,
        console: Console,
    ) -> None:
        self._request = request
        self._engine = engine
        self._inputs = inputs
        self._run = run
        self._console = console
        self._done = journal.done_parts(request.output, request.output / PARTS_FOLDER)

    def finish(self, stop: Callable[[], bool]) -> dict[str, Any]:
        """Score what is left, unless it is to stop, and write the summary."""
        folder = self._request.output
        tasks = self._tasks()
        before = self._counts().images
        if not tasks and (found := journal.read_summary(folder)) is not None:
            say(self._console, f"{folder} is finished already: {before:,} images")
            return found
        started = time.monotonic()
        if tasks:
            self._score(tasks, before, stop)
        counts = self._counts()
        if not counts.images:
            raise InputError(
                f"there is nothing to score: no images in {', '.join(self._request.inputs)}"
            )
        found = summarize(
            counts,
            self._engine.manifest,
            labelled=self._request.labels is not None,
            scored=counts.images - before,
            seconds=time.monotonic() - started,
        )
        about = {key: self._run.about[key] for key in ("model", "rule")}
        document = {**about, **found, "left_out": dict(self._inputs.left_out)}
        journal.write_summary(folder, document)
        return document

    def _score(self, tasks: Sequence[ShardTask], before: int, stop: Callable[[], bool]) -> None:
        folder = self._request.output
        with (
            Journal(folder) as lines,
            scoring_progress(self._console, before, self._inputs.images) as show,
        ):

            def keep(part: DonePart) -> None:
                lines.add(part)
                self._done[part.key] = part

            def watch(seen: ScoringProgress) -> bool:
                show(seen.rows, seen.experts / seen.answered if seen.answered else None)
                return stop()

            whole = self._scorer().score(tasks, keep, watch)
        if not whole:
            raise ScoringStopped(
                f"stopped: {self._counts().images:,} images are in {folder}; "
                "the same command goes on from there"
            )

    def _scorer(self) -> Scorer:
        if self._request.ray is None:
            return ThreadScorer(self._request, self._engine, self._run)
        from scoring.ray_scorer import RayScorer  # noqa: PLC0415 an extra, slow to import

        return RayScorer(self._request, self._request.ray, self._run)

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

    def _counts(self) -> RowCounts:
        counts = [part.counts for part in self._done.values()]
        return RowCounts.total(counts, self._engine.manifest.num_experts)
