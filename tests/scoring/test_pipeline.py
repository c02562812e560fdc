"""Rows meet rows of other shards in batches, and no answer shows it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scoring.blocks import Block, BlockQueue
from scoring.errors import OutputError
from scoring.parts import Part, PartKey
from scoring.pipeline import Pipeline, PipelineSettings
from scoring.reader import ShardTask
from scoring.records import Fault, FaultKind, Record
from scoring.request import KeptFields
from serving.engine.graphs import Engine, StageRun
from serving.errors import InferenceError
from serving.model.routing import Routed, RoutingState, StageCall

FAULT = Fault(FaultKind.MISSING, "gone")


@dataclass(frozen=True)
class Shelf:
    """A shard in memory; it counts how far it was read."""

    images: tuple[bytes | Fault, ...]
    rows: int | None = None

    def read(self, skip: int = 0) -> Iterator[Record]:
        for row, image in enumerate(self.images[skip:], start=skip):
            yield Record(str(row), None, image)


def score(engine: Engine, tasks: list[ShardTask], work: PipelineSettings) -> dict[PartKey, Part]:
    found: dict[PartKey, Part] = {}

    def emit(part: Part) -> None:
        assert part.key not in found
        found[part.key] = part

    assert Pipeline(engine, engine.rule(), work, emit).run(tasks)
    return found


@settings(max_examples=15)
@given(
    cuts=st.lists(st.integers(0, 48), max_size=4).map(sorted),
    broken=st.frozensets(st.integers(0, 47), max_size=5),
    done_share=st.sampled_from([0.0, 0.3]),
    part_rows=st.integers(1, 20),
    batch_size=st.integers(1, 16),
    workers=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_division_into_shards_parts_and_batches_gives_the_same_rows(
    engine: Engine,
    pictures: tuple[bytes, ...],
    expected: Routed,
    cuts: list[int],
    broken: frozenset[int],
    done_share: float,
    part_rows: int,
    batch_size: int,
    workers: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(pictures)).tolist()
    rows_of_shards = [
        order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)
    ]
    shards = [
        Shelf(tuple(FAULT if i in broken else pictures[i] for i in rows)) for rows in rows_of_shards
    ]
    kept = KeptFields(2, embeddings=True, all_probabilities=True)
    work = PipelineSettings(kept, part_rows, batch_size, workers)
    done = [
        frozenset(i for i in range(len(rows) // part_rows) if generator.random() < done_share)
        for rows in rows_of_shards
    ]
    tasks = [ShardTask(i, shard, done[i]) for i, shard in enumerate(shards)]
    found = score(engine, tasks, work)

    wanted = {
        PartKey(i, number): rows[number * part_rows :][:part_rows]
        for i, rows in enumerate(rows_of_shards)
        for number in range(-(-len(rows) // part_rows))
        if number not in done[i]
    }
    assert found.keys() == wanted.keys()
    for key, part in found.items():
        assert part.ids == [str(key.number * part_rows + j) for j in range(len(wanted[key]))]
        assert part.last == (key.number == (len(rows_of_shards[key.shard]) - 1) // part_rows)
        for row, picture in enumerate(wanted[key]):
            if picture in broken:
                assert part.faults[row] is FAULT
                assert not part.experts_used[row]
                continue
            assert row not in part.faults
            assert part.probabilities is not None
            assert part.embeddings is not None
            assert (part.probabilities[row] == expected.probabilities[picture]).all()
            assert part.experts_used[row] == expected.experts_used[picture]
            assert part.embeddings[row].any()


def test_features_may_stay_on_the_device(
    engine: Engine, pictures: tuple[bytes, ...], expected: Routed
) -> None:
    """The same binding as on a GPU, with the CPU as the device."""
    work = PipelineSettings(KeptFields(1, embeddings=True), 48, batch_size=7, workers=2)
    found = score(replace(engine, device="cpu"), [ShardTask(0, Shelf(pictures))], work)
    part = found[PartKey(0, 0)]
    assert part.top_indices[:, 0].tolist() == expected.probabilities.argmax(axis=1).tolist()
    assert part.experts_used.tolist() == expected.experts_used.tolist()
    assert part.embeddings is not None


def test_rows_of_many_shards_fill_the_batches_of_later_stages(
    engine: Engine, pictures: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []
    run = Engine.run_stage

    def recorded(self: Engine, call: StageCall, *arguments: Any, **flags: Any) -> StageRun:
        batches.append((call.stage, len(call.rows)))
        return run(self, call, *arguments, **flags)

    monkeypatch.setattr(Engine, "run_stage", recorded)
    tasks = [ShardTask(i, Shelf(pictures[:5])) for i in range(40)]
    # Parts that are large enough for all rows to be under way: none is held back.
    score(engine, tasks, PipelineSettings(KeptFields(1), 50, batch_size=10, workers=2))
    for stage in (1, 2, 3):
        sizes = [size for at, size in batches if at == stage]
        assert sizes, stage
        assert sum(size == 10 for size in sizes) >= len(sizes) - 1


class Endless:
    """A shard without end that tells how far it was read."""

    rows = None

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.taken = 0

    def read(self, skip: int = 0) -> Iterator[Record]:
        while True:
            self.taken += 1
            yield Record("", None, self.image)


def test_what_waits_is_bounded_and_a_stop_ends_it(
    engine: Engine, pictures: tuple[bytes, ...]
) -> None:
    """The writer hangs: reading stops by itself, and stopping does not wait for the reader."""
    shard, hang = Endless(pictures[0]), threading.Event()
    work = PipelineSettings(KeptFields(1), part_rows=20, batch_size=8, workers=2)

    def emit(_: Part) -> None:
        hang.wait(60)

    pipeline = Pipeline(engine, engine.rule(), work, emit)
    seen: list[int] = []

    def watch() -> bool:
        seen.append(shard.taken)
        if len(seen) > 3 and seen[-1] == seen[-3]:
            hang.set()
            return True
        return False

    assert not pipeline.run([ShardTask(0, shard)], watch)
    assert 80 <= seen[-1] <= 120


@pytest.mark.parametrize("where", ["reading", "inference", "writing"])
def test_a_failure_ends_the_run(
    engine: Engine, pictures: tuple[bytes, ...], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Shelf):
        def read(self, skip: int = 0) -> Iterator[Record]:
            yield from super().read(skip)
            if where == "reading":
                raise OutputError("reading")

    def run_stage(*_: object, **__: object) -> None:
        raise InferenceError("inference")

    def emit(_: Part) -> None:
        if where == "writing":
            raise OutputError("writing")

    if where == "inference":
        monkeypatch.setattr(Engine, "run_stage", run_stage)
    work = PipelineSettings(KeptFields(1), part_rows=10, batch_size=8, workers=2)
    started = time.monotonic()
    with pytest.raises((OutputError, InferenceError), match=where):
        Pipeline(engine, engine.rule(), work, emit).run([ShardTask(0, Broken(pictures))])
    assert time.monotonic() - started < 10


def test_a_queue_cuts_blocks_where_batches_end(
    engine: Engine, pixels: NDArray[np.uint8], block_of: Callable[[int, int], Block]
) -> None:
    queue = BlockQueue()
    for start, end in ((0, 3), (3, 10), (10, 11)):
        queue.put(block_of(start, end))
    taken = [Block.concatenate(queue.take(4)) for _ in range(3)]
    assert [len(block) for block in taken] == [4, 4, 3]
    assert [row for block in taken for row in block.rows.tolist()] == list(range(11))
    assert all((block.inputs == pixels[block.rows]).all() for block in taken)
    assert queue.rows == 0


@pytest.fixture
def block_of(engine: Engine, pixels: NDArray[np.uint8]) -> Callable[[int, int], Block]:
    def make(start: int, end: int) -> Block:
        manifest = engine.manifest
        state = RoutingState.start(
            [engine.rule()] * (end - start), manifest.num_experts, manifest.num_classes
        )
        return Block(pixels[start:end], state, np.zeros(end - start, int), np.arange(start, end))

    return make


def test_workers_may_fill_a_part_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its larger arrays are made when the first answers come, which may be two at once."""
    together = threading.Barrier(2, timeout=0.2)

    def slowly(*arguments: Any, **keywords: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()
        return zeros(*arguments, **keywords)

    part = Part(PartKey(0, 0), 2, KeptFields(1, embeddings=True, all_probabilities=True), 3)
    zeros = np.zeros
    monkeypatch.setattr("scoring.parts.np.zeros", slowly)

    def fill(row: int) -> None:
        answer = Routed(
            np.full((1, 4), 0.25, dtype=np.float32),
            np.ones(1, dtype=np.int32),
            np.full((1, 2), np.nan, dtype=np.float32),
        )
        part.fill(np.array([row]), answer, np.ones((1, 5), dtype=np.float32))

    workers = [threading.Thread(target=fill, args=(row,)) for row in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert part.probabilities is not None
    assert part.embeddings is not None
    assert part.probabilities.all()
    assert part.embeddings.all()
