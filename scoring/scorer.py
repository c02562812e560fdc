"""What scores the shards of a run, whether in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from scoring.inference import BatchInference
from scoring.journal import DonePart
from scoring.parts import Part
from scoring.pipeline import Pipeline, PipelineSettings, ScoringProgress
from scoring.reader import ShardTask
from scoring.request import ScoringRequest
from scoring.run_manifest import ScoringRun
from scoring.summary import RowCounts
from scoring.writer import PartWriter, true_classes
from serving.engine.graphs import Engine

KeepPart: TypeAlias = Callable[[DonePart], None]
"""Is told of each part that is in its place, one at a time."""

Watch: TypeAlias = Callable[[ScoringProgress], bool]
"""Is called a few times a second with how far it is; true to stop."""


class Scorer(Protocol):
    """Writes parts."""

    def score(self, tasks: Sequence[ShardTask], keep: KeepPart, watch: Watch) -> bool:
        """Write all parts that are left; whether all is done, or it was stopped.

        Raises:
            ScoringError: if an input, the output or a cluster fails.
            RideError: if the repository can't be served, or the runtime fails.
        """
        ...


class ThreadScorer:
    """Scores in threads of this process."""

    def __init__(self, request: ScoringRequest, engine: Engine, run: ScoringRun) -> None:
        self._request = request
        self._engine = engine
        self._run = run
        self._writer = PartWriter(
            request.output, engine.manifest, request.kept, request.labels is not None, run.about
        )

    def score(self, tasks: Sequence[ShardTask], keep: KeepPart, watch: Watch) -> bool:
        """As of every `Scorer`."""
        request = self._request
        settings = PipelineSettings(
            request.kept,
            self._run.part_rows,
            request.rows_of_a_batch,
            request.threads,
            request.limits,
        )
        pipeline = Pipeline(
            self._engine,
            self._run.rule,
            settings,
            lambda part: keep(self._write(part)),
            self._inference(),
        )
        return pipeline.run(tasks, lambda: watch(pipeline.progress))

    def _inference(self) -> BatchInference | None:
        if self._request.server is None:
            return None
        from scoring.server_inference import ServerInference  # noqa: PLC0415 gRPC is slow to import

        return ServerInference(self._request.server, self._engine, self._run.rule)

    def _write(self, part: Part) -> DonePart:
        truth = true_classes(part.labels, self._engine.manifest)
        size = self._writer.write(part, truth)
        counts = RowCounts.of(part, truth, self._engine.manifest)
        return DonePart(part.key.shard, part.key.number, size, part.last, counts)
