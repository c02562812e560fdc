"""Turns: a shared machine is then as slow for one as for the other."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")
Figures = TypeVar("Figures", bound=Any)
"""A dataclass of numbers."""


def in_turns(ways: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Run every way once a round; what each returned, round by round."""
    results: dict[str, list[Result]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            results[name].append(run())
    return results


def median(rounds: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    names = [field.name for field in dataclasses.fields(rounds[0])]
    middle = {name: statistics.median(getattr(each, name) for each in rounds) for name in names}
    return dataclasses.replace(rounds[0], **middle)


def fastest(runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Each one's shortest time in seconds: what other programs add is never negative."""
    shortest = [float("inf")] * len(runs)
    end = time.monotonic() + seconds
    while time.monotonic() < end or float("inf") in shortest:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            shortest[i] = min(shortest[i], time.perf_counter() - start)
    return shortest
