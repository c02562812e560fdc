"""What a free worker does next, on machines where batches are cheap and where they are not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.batching import BatchPolicy, Run, StageEstimates, StageQueue, Wait
from serving.engine.stage_costs import StageCosts

NEVER = math.inf
CPU = StageCosts((1, 2, 4, 8), ((2.0, 4.0, 8.0, 16.0), (1.0, 2.0, 4.0, 8.0), (1.0, 2.0, 4.0, 8.0)))
"""Three stages; a batch costs what its rows cost."""
GPU = StageCosts((1, 64), ((1.0, 2.0), (0.5, 1.0), (0.5, 1.0)))
"""Three stages; 64 rows cost twice what one costs."""


def policy_of(costs: StageCosts) -> BatchPolicy:
    return BatchPolicy(costs, StageEstimates(costs))


def queues(*rows: int) -> list[StageQueue]:
    return [StageQueue(count) for count in rows]


@st.composite
def cost_tables(draw: st.DrawFn) -> StageCosts:
    """Costs that rise with the batch, as the doubling sizes of a measurement do."""
    sizes = tuple(2**power for power in range(draw(st.integers(1, 6))))
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        seconds, total = [], 0.0
        for _ in sizes:
            total += draw(st.floats(1e-4, 1.0))
            seconds.append(total)
        stages.append(tuple(seconds))
    return StageCosts(sizes, tuple(stages))


@given(cost_tables(), st.data())
def test_it_runs_rows_that_are_there_or_waits_for_company(
    costs: StageCosts, data: st.DataObject
) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 100), min_size=len(costs.seconds), max_size=len(costs.seconds))
    )
    deadlines = [data.draw(st.sampled_from([NEVER, 0.1, 1_000.0])) for _ in counts]
    idle = data.draw(st.integers(1, 8))
    choice = policy_of(costs).choose(
        [StageQueue(*pair) for pair in zip(counts, deadlines, strict=True)],
        now=0.0,
        idle_workers=idle,
        arrival_gap=data.draw(st.sampled_from([NEVER, 0.0, 1e-5, 0.01])),
    )
    if choice is None:
        assert not any(counts)
    elif isinstance(choice, Wait):
        assert idle == 1
        assert 0 <= choice.seconds < NEVER
        assert counts[0] < costs.best_batch
    else:
        assert 1 <= choice.size <= min(counts[choice.stage - 1], costs.best_batch)


@given(st.integers(1, 7), st.floats(0, 10))
def test_where_batches_save_nothing_waiting_never_pays(rows: int, gap: float) -> None:
    assert not policy_of(CPU).wait_pays(rows, gap)


def test_where_batches_are_cheap_it_waits_for_what_comes_at_once_and_no_longer() -> None:
    policy = policy_of(GPU)
    assert policy.choose(queues(4, 0, 0), 0, 1, 0.001) == Wait(0.001)
    assert policy.choose(queues(4, 0, 0), 0, 1, 5.0) == Run(1, 4)
    assert policy.choose(queues(4, 0, 0), 0, 1, NEVER) == Run(1, 4)
    assert policy.choose(queues(64, 0, 0), 0, 1, 0.001) == Run(1, 64)


def test_nobody_waits_while_another_worker_could_take_what_comes() -> None:
    assert policy_of(GPU).choose(queues(4, 0, 0), 0, 2, 0.001) == Run(1, 2)


def test_on_a_cpu_the_latest_stage_goes_first() -> None:
    policy = policy_of(CPU)
    assert policy.choose(queues(8, 1, 0), 0, 1, NEVER) == Run(2, 1)
    assert policy.choose(queues(8, 8, 1), 0, 1, NEVER) == Run(3, 1)


def test_where_small_batches_are_dear_a_later_stage_waits_to_grow() -> None:
    policy = policy_of(GPU)
    assert policy.choose(queues(64, 1, 0), 0, 1, NEVER) == Run(1, 64)
    assert policy.choose(queues(64, 40, 0), 0, 1, NEVER) == Run(2, 40)


def test_a_row_that_may_miss_its_deadline_goes_first() -> None:
    policy = policy_of(GPU)
    hurried = [StageQueue(64), StageQueue(1, deadline=0.5), StageQueue(0)]
    assert policy.choose(hurried, 0.0, 1, NEVER) == Run(2, 1)
    relaxed = [StageQueue(64), StageQueue(1, deadline=1_000), StageQueue(0)]
    assert policy.choose(relaxed, 0.0, 1, NEVER) == Run(1, 64)


def test_idle_workers_share_what_waits() -> None:
    policy = policy_of(CPU)
    assert policy.choose(queues(8, 0, 0), 0, 2, NEVER) == Run(1, 4)
    assert policy.choose(queues(100, 0, 0), 0, 2, NEVER) == Run(1, 8)


def test_estimates_follow_what_happens() -> None:
    estimates = StageEstimates(CPU)
    assert estimates.row_seconds == [2, 1, 1]
    assert estimates.seconds_left(3) == 1
    assert estimates.seconds_left(1) == pytest.approx(2 + 0.5 * (1 + 0.5 * 1))
    for _ in range(500):
        estimates.observe(1, rows=4, stopped=4, seconds=12.0)
    assert estimates.seconds_left(1) == pytest.approx(3, abs=0.01)
    assert estimates.backlog_seconds([2, 0, 5]) == pytest.approx(2 * 3 + 5, abs=0.02)


def test_costs_between_and_beyond_the_measured_sizes() -> None:
    assert GPU.of(1, 1) == 1.0
    assert GPU.of(1, 64) == 2.0
    assert GPU.of(2, 1 + 63 // 2) == pytest.approx(0.5 + 0.5 * 31 / 63)
    assert GPU.of(1, 128) == 4.0
    assert CPU.of(1, 3) == 6.0
