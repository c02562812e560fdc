"""Taking turns: the order of runs, and what counts of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.turns import fastest, in_turns, median


@dataclass(frozen=True)
class Figures:
    speed: float
    cost: float


def test_every_way_runs_once_a_round() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    assert in_turns(ways, rounds=3) == {"a": [None] * 3, "b": [None] * 3}
    assert calls == ["a", "b"] * 3


def test_the_median_is_of_each_figure_by_itself() -> None:
    assert median([Figures(1, 9), Figures(2, 7), Figures(9, 8)]) == Figures(2, 8)


def test_the_fastest_run_of_each_counts() -> None:
    pauses = iter((0.05, 0.001) * 500)
    calls = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.02)

    def varying() -> None:
        calls.append("varying")
        time.sleep(next(pauses))

    one, other = fastest([slow, varying], seconds=0.2)
    assert calls[:4] == ["slow", "varying"] * 2
    assert one >= 0.02
    assert 0.001 <= other < 0.02
