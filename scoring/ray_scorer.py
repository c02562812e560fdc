"""Scoring on Ray: an actor pool of Ray Data writes the parts, the driver keeps the journal.

Parts that are left are dealt out in shares. A worker scores a share as a run on one machine would
and gives back the journal's lines; that a part was written twice, because its worker died before it
could say so, does no harm. So a run may begin on one engine and end on the other.

Workers work in the driver's folder: they need the same inputs, model and output there, such as on a
shared file system, and ride-server with the extra `ray`.
"""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from scoring.errors import RayError, ScoringError
from scoring.journal import LINE, DonePart, remove_leftovers
from scoring.pipeline import ScoringProgress
from scoring.ray_cluster import ActorPool, actor_pool, cluster_connection
from scoring.reader import ShardTask
from scoring.request import RayCluster, ScoringRequest
from scoring.run_manifest import ScoringRun, model_identity
from scoring.scorer import KeepPart, ThreadScorer, Watch
from serving.engine.graphs import Engine, load_engine
from serving.engine.provider import Provider
from serving.errors import RideError

_MOST_PARTS = 4
"""Of a share: enough for full batches, few enough to lose with a worker."""

_SHARES_AN_ACTOR = 4
_RETRIES = 5
"""Of a share whose worker died: one that kills every worker must not go round for ever."""

_POLL_S = 0.2


@dataclass(frozen=True)
class _WorkerConfig:
    """What a worker needs to know.

    Attributes:
        folder: where it works.
        request: as the driver was asked, with the threads of a worker.
        run: the run that it belongs to.
    """

    folder: str
    request: ScoringRequest
    run: ScoringRun


class RayScorer:
    """Scores on a cluster."""

    def __init__(self, request: ScoringRequest, cluster: RayCluster, run: ScoringRun) -> None:
        self._request = request
        self._cluster = cluster
        self._run = run

    def score(self, tasks: Sequence[ShardTask], keep: KeepPart, watch: Watch) -> bool:
        """As of every `Scorer`."""
        with cluster_connection(self._cluster.address, self._request.threads):
            on_gpu = self._request.provider is not Provider.CPU
            pool = actor_pool(self._cluster.actors, self._request.workers, on_gpu=on_gpu)
            config = _WorkerConfig(
                str(Path.cwd()), replace(self._request, workers=pool.threads), self._run
            )
            results = _Results(_dataset(config, pool, tasks))
            whole = _take(results, keep, watch)
        remove_leftovers(self._request.output)
        return whole


def _dataset(config: _WorkerConfig, pool: ActorPool, tasks: Sequence[ShardTask]) -> Any:
    dealt = shares(tasks, config.run.part_rows, pool.actors)
    items = [{"share": pickle.dumps(share)} for share in dealt]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ShareScorer,
        fn_constructor_args=[config],
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(pool.actors, len(items))),
        num_cpus=pool.threads,
        num_gpus=pool.gpus,
        ray_remote_args_fn=lambda: {"max_task_retries": _RETRIES},
    )


def shares(tasks: Iterable[ShardTask], part_rows: int, actors: int) -> list[list[ShardTask]]:
    """Deal out what is left, so that each worker gets some: up to four parts a share.

    A shard of unknown length is not divided.
    """
    pieces = [piece for task in tasks for piece in _parts_left(task, part_rows)]
    each = min(_MOST_PARTS, max(1, len(pieces) // (_SHARES_AN_ACTOR * actors)))
    return [
        [
            _joined([piece for _, piece in of_shard])
            for _, of_shard in groupby(
                ((piece.index, piece) for piece in pieces[start : start + each]),
                key=lambda item: item[0],
            )
        ]
        for start in range(0, len(pieces), each)
    ]


def _parts_left(task: ShardTask, part_rows: int) -> Iterator[ShardTask]:
    if task.shard.rows is None:
        yield task
        return
    for number in range(-(-task.shard.rows // part_rows)):
        if number not in task.done:
            yield replace(task, start=number, stop=number + 1)


def _joined(pieces: Sequence[ShardTask]) -> ShardTask:
    """Parts of one shard as one task."""
    return replace(pieces[0], stop=pieces[-1].stop)


class ShareScorer:
    """What each worker runs. Errors are given back: Ray would wrap them, and begin again."""

    def __init__(self, config: _WorkerConfig) -> None:
        self._config = config
        self._engine: Engine | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Score a share; gives the journal's lines, and the error that ended it if there is one."""
        lines: list[bytes] = []
        error = None
        try:
            for share in table["share"].to_pylist():
                tasks: list[ShardTask] = pickle.loads(share)  # noqa: S301 the driver's own
                self._scorer().score(
                    tasks, lambda part: lines.append(LINE.dump_json(part)), lambda _: False
                )
        except (ScoringError, RideError, OSError) as raised:
            error = f"{raised} (on {socket.gethostname()})"
        columns = {"lines": [lines], "error": [error]}
        schema = pa.schema({"lines": pa.list_(pa.binary()), "error": pa.string()})
        return pa.table(columns, schema=schema)

    def _scorer(self) -> ThreadScorer:
        config = self._config
        if self._engine is None:
            if not Path(config.folder).is_dir():
                raise RayError(f"there is no folder {config.folder}: it must be on a shared disk")
            os.chdir(config.folder)
            engine = load_engine(config.request.repository, provider=config.request.provider)
            if model_identity(engine) != config.run.about["model"]:
                raise RayError(f"another model is in {config.request.repository}")
            self._engine = engine
        return ThreadScorer(config.request, self._engine, config.run)


class _Results:
    """Rows of a dataset, taken by a thread so that they can be waited for in bounded time."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._rows: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._take_all, name="ride-ray", daemon=True).start()

    def _take_all(self) -> None:
        try:
            for row in self._dataset.iter_rows():
                self._rows.put(row)
            self._rows.put(None)
        except Exception as error:  # noqa: BLE001 whoever waits raises it
            self._rows.put(error)

    def rows(self) -> Iterator[dict[str, Any] | None]:
        """Each row, and None whenever none came for a while.

        Raises:
            RayError: if the cluster fails.
        """
        while True:
            try:
                row = self._rows.get(timeout=_POLL_S)
            except queue.Empty:
                yield None
                continue
            if row is None:
                return
            if isinstance(row, Exception):
                raise RayError(f"Ray failed: {_last_line(row)}; the same command goes on") from row
            yield row


def _take(results: _Results, keep: KeepPart, watch: Watch) -> bool:
    seen = ScoringProgress(0, 0, 0)
    for row in results.rows():
        for line in row["lines"] if row else ():
            part = LINE.validate_json(line)
            keep(part)
            seen = _further(seen, part)
        if row and row["error"] is not None:
            raise RayError(row["error"])
        if watch(seen):
            return False
    return True


def _further(seen: ScoringProgress, part: DonePart) -> ScoringProgress:
    used = part.counts.experts_used
    experts = sum(i * count for i, count in enumerate(used, start=1))
    rows = seen.rows + part.counts.images
    return ScoringProgress(rows, seen.answered + sum(used), seen.experts + experts)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
