"""Reading, decoding, inference and writing side by side, for inputs of any size.

One thread reads, one writes, and a worker a core takes, each time it is free, the most useful work:
the latest stage that has a full batch, else decoding. So the rows that go on to a later stage meet
those of other files there and run in full batches; what is left runs in smaller ones once nothing
more can join it. All that waits is bounded: encoded bytes, and rows that are not written yet. A
batch's rows don't change each other's answers, so the order of work does not show in the output.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scoring.blocks import Block, BlockQueue
from scoring.decoding import decode_chunk
from scoring.inference import BatchInference, StageInference
from scoring.parts import Part, PartKey
from scoring.reader import Chunk, ShardTask, read_chunks
from scoring.records import LIMITS
from scoring.request import KeptFields
from serving.engine.graphs import Engine
from serving.images.decode import ImageLimits
from serving.model.routing import RoutingRule

_MOST_WAITING_BYTES = 32 * 2**20
"""Of encoded images, read and not yet decoded; one chunk may be larger."""

_MOST_PARTS = 64
"""That are begun and not yet written."""

_PARTS_IN_FLIGHT = 4
"""Whole parts whose rows may be under way: enough for stragglers of one to fill later batches."""

_POLL_S = 0.2


@dataclass(frozen=True)
class PipelineSettings:
    """How to work; none of it changes an answer that there is.

    Attributes:
        kept: what is kept of each answer.
        part_rows: rows of a part.
        batch_size: rows of a full batch.
        workers: threads that decode and infer.
        limits: which images are decoded.
    """

    kept: KeptFields
    part_rows: int
    batch_size: int
    workers: int
    limits: ImageLimits = LIMITS


@dataclass(frozen=True)
class ScoringProgress:
    """Rows that are done, those with an answer, and the experts that these took together."""

    rows: int
    answered: int
    experts: int


_Job: TypeAlias = tuple[int, Callable[[], None]]
"""What a worker does, and its step: 0 for decoding, else the stage."""


class Pipeline:
    """Scores shards. Use it once.

    Attributes:
        progress: how far it is.
    """

    def __init__(
        self,
        engine: Engine,
        rule: RoutingRule,
        settings: PipelineSettings,
        sink: Callable[[Part], None],
        inference: BatchInference | None = None,
    ) -> None:
        """Prepare to score.

        Args:
            engine: what answers.
            rule: how far each image goes.
            settings: how to work.
            sink: takes each part that is complete, one at a time, in a thread of its own.
            inference: what is done with a batch; None for the engine's stages.
        """
        self._manifest = engine.manifest
        self._inference = inference or StageInference(engine, embeddings=settings.kept.embeddings)
        self._rule = rule
        self._settings = settings
        self._sink = sink
        self._changed = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._chunk_bytes = 0
        self._stages = [BlockQueue() for _ in range(self._inference.steps)]
        self._busy = [0] * (len(self._stages) + 1)
        self._parts: dict[int, Part] = {}  # by their codes
        self._complete: deque[Part] = deque()
        self._rows_in_flight = 0
        self._reading = True
        self._held_back = False
        self._working = settings.workers
        self._stopped = False
        self._error: BaseException | None = None
        self.progress = ScoringProgress(0, 0, 0)

    def run(self, tasks: Iterable[ShardTask], watch: Callable[[], bool] = lambda: False) -> bool:
        """Score all that is left of some shards.

        Args:
            tasks: what to read.
            watch: called a few times a second; true to stop. Batches that run are finished, parts
                that are complete are written, and the rest is dropped.

        Returns:
            Whether all is done; false if it was stopped.

        Raises:
            ScoringError: if an input or the output fails.
            InferenceError: if the runtime fails.
        """
        reader = self._start(lambda: self._read(tasks), "ride-reader")
        workers = [self._start(self._work, "ride-worker") for _ in range(self._settings.workers)]
        writer = self._start(self._write, "ride-writer")
        while writer.is_alive():
            writer.join(_POLL_S)
            if watch():
                self._stop()
        for thread in workers:
            thread.join()
        if not self._stopped:
            reader.join()
        if self._error is not None:
            raise self._error
        return not self._stopped

    def _start(self, work: Callable[[], None], name: str) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 `run` raises it
                self._stop(error)

        # A reader may hang in a network for longer than anybody wants to wait for the end.
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _stop(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._error = self._error or error
            self._stopped = True
            self._changed.notify_all()

    def _read(self, tasks: Iterable[ShardTask]) -> None:
        settings = self._settings
        for chunk in read_chunks(tasks, settings.part_rows, settings.batch_size, self._new_part):
            with self._changed:
                self._wait_for_room(chunk)
                if self._stopped:
                    return
                self._admit(chunk)
                self._changed.notify_all()
        with self._changed:
            self._reading = False
            self._changed.notify_all()

    def _new_part(self, key: PartKey) -> Part:
        settings = self._settings
        return Part(key, settings.part_rows, settings.kept, self._manifest.num_experts)

    def _wait_for_room(self, chunk: Chunk) -> None:
        settings = self._settings
        most_rows = max(
            _PARTS_IN_FLIGHT * settings.part_rows, 4 * settings.workers * settings.batch_size
        )
        while not self._stopped:
            begins = chunk.part.key.code not in self._parts
            self._held_back = self._rows_in_flight + len(chunk.images) > most_rows or (
                begins and len(self._parts) >= _MOST_PARTS
            )
            full = bool(self._chunks) and self._chunk_bytes + chunk.bytes > _MOST_WAITING_BYTES
            if not (full or self._held_back):
                return
            self._changed.notify_all()  # workers: nothing more will come until something is done
            self._changed.wait()

    def _admit(self, chunk: Chunk) -> None:
        part = chunk.part
        self._parts[part.key.code] = part
        part.left += len(chunk.images)
        part.closed = chunk.closes
        self._rows_in_flight += len(chunk.images)
        self._chunks.append(chunk)
        self._chunk_bytes += chunk.bytes

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                step, work = job
                work()
                with self._changed:
                    self._busy[step] -= 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        """The most useful job; None at the end."""
        with self._changed:
            while not self._stopped:
                job = self._full_batch() or self._decoding() or self._remainder()
                if job is not None:
                    self._busy[job[0]] += 1
                    return job
                if not (self._reading or any(self._busy)):
                    return None  # and nothing waits, else there would have been a job
                self._changed.wait()
            return None

    def _full_batch(self) -> _Job | None:
        for stage in range(len(self._stages), 0, -1):
            if self._stages[stage - 1].rows >= self._settings.batch_size:
                return self._batch(stage)
        return None

    def _decoding(self) -> _Job | None:
        if not self._chunks:
            return None
        chunk = self._chunks.popleft()
        self._chunk_bytes -= chunk.bytes
        self._changed.notify_all()
        return 0, lambda: self._decode(chunk)

    def _remainder(self) -> _Job | None:
        """What waits for the earliest stage, once nothing is under way that could still join it."""
        if self._reading and not self._held_back:
            return None
        for stage, queue in enumerate(self._stages, start=1):
            if self._busy[stage - 1]:
                return None
            if queue.rows:
                return self._batch(stage)
        return None

    def _batch(self, stage: int) -> _Job:
        blocks = self._stages[stage - 1].take(self._settings.batch_size)
        return stage, lambda: self._infer(stage, Block.concatenate(blocks))

    def _decode(self, chunk: Chunk) -> None:
        limits = self._settings.limits
        block = decode_chunk(chunk, self._manifest, self._rule, limits)
        with self._changed:
            if len(block):
                self._stages[0].put(block)
            self._finish(chunk.part, len(chunk.images) - len(block))

    def _infer(self, stage: int, block: Block) -> None:
        inferred = self._inference.infer(stage, block)
        codes, rows = block.parts[inferred.done], block.rows[inferred.done]
        finished = [(self._parts[code], codes == code) for code in np.unique(codes).tolist()]
        for part, its in finished:
            embeddings = None if inferred.embeddings is None else inferred.embeddings[its]
            part.fill(rows[its], inferred.answers.take(its), embeddings)
        with self._changed:
            if inferred.onward is not None:
                self._stages[stage].put(inferred.onward)
            for part, its in finished:
                experts = int(inferred.answers.experts_used[its].sum())
                self._finish(part, int(its.sum()), experts)

    def _finish(self, part: Part, rows: int, experts: int = 0) -> None:
        """Count rows of a part that are done, those with an answer by the experts they took."""
        done, answered = self.progress, rows if experts else 0
        self.progress = ScoringProgress(
            done.rows + rows, done.answered + answered, done.experts + experts
        )
        part.left -= rows
        if part.closed and not part.left:
            self._complete.append(part)
            self._changed.notify_all()

    def _write(self) -> None:
        while (part := self._next_complete()) is not None:
            self._sink(part)
            with self._changed:
                del self._parts[part.key.code]
                self._rows_in_flight -= len(part)
                self._changed.notify_all()

    def _next_complete(self) -> Part | None:
        """The next part to write; None once no further one can become complete."""
        with self._changed:
            while not self._complete and self._working:
                self._changed.wait()
            return self._complete.popleft() if self._complete else None
