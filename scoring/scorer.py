"""What scores the shards of a run, whether in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from scoring.agreement import AgreedRun
from scoring.journal import DonePart
from scoring.output import PartWriter, true_classes
from scoring.parts import Part
from scoring.pipeline import Pipeline, PipelineSettings, Progress
from scoring.reading import ShardTask
from scoring.request import ScoringRequest
from scoring.summary import Counts
from serving.engine.graphs import Engine


class Scorer(Protocol):
    """Writes parts."""

    def score(
        self,
        tasks: Sequence[ShardTask],
        keep: Callable[[DonePart], None],
        watch: Callable[[Progress], bool],
    ) -> bool:
        """Write all parts that are left.

        Args:
            tasks: what is left.
            keep: told of each part that is in its place, one at a time.
            watch: called a few times a second with how far it is; true to stop.

        Returns:
            Whether all is done; false if it was stopped.

        Raises:
            ScoringError: if an input, the output or a cluster fails.
            RideError: if the repository can't be served, or the runtime fails.
        """
        ...


class ThreadScorer:
    """Scores in threads of this process."""

    def __init__(self, request: ScoringRequest, engine: Engine, run: AgreedRun) -> None:
        self._request = request
        self._engine = engine
        self._run = run
        self._writer = PartWriter(
            request.output, engine.manifest, request.kept, request.labels is not None, run.about
        )

    def score(
        self,
        tasks: Sequence[ShardTask],
        keep: Callable[[DonePart], None],
        watch: Callable[[Progress], bool],
    ) -> bool:
        """As of every `Scorer`."""
        request = self._request
        settings = PipelineSettings(
            request.kept, self._run.part_rows, request.rows_of_a_batch, request.threads
        )
        pipeline = Pipeline(
            self._engine, self._run.rule, settings, lambda part: keep(self._write(part))
        )
        return pipeline.run(tasks, lambda: watch(pipeline.progress))

    def _write(self, part: Part) -> DonePart:
        truth = true_classes(part.labels, self._engine.manifest)
        size = self._writer.write(part, truth)
        return DonePart(part.key, size, part.last, Counts.of(part, truth, self._engine.manifest))
