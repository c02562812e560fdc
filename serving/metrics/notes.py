"""Notes of what happened, which cost next to nothing: they are added up later, many at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

_MOST_NOTES = 256
"""Few enough that adding them up keeps nobody waiting."""

Note = TypeVar("Note")


class Notes(Collector, Generic[Note]):
    """Notes of a kind, added up once many have come together or a scrape comes.

    A registry collects in the order of registration: make it before the metrics that it fills, and
    a scrape finds them up to date. Any thread may add.
    """

    def __init__(self, registry: CollectorRegistry, add_up: Callable[[list[Note]], object]) -> None:
        self._add_up = add_up
        self._notes: deque[Note] = deque()
        self._adding_up = threading.Lock()
        registry.register(self)

    def add(self, note: Note) -> None:
        """Note something."""
        self._notes.append(note)
        if len(self._notes) >= _MOST_NOTES:
            self.add_up()

    def add_up(self) -> None:
        """Bring the metrics up to date with what was noted."""
        with self._adding_up:  # others may add meanwhile
            self._add_up([self._notes.popleft() for _ in range(len(self._notes))])

    def collect(self) -> list[Metric]:
        """For a scrape, which finds nothing here: it is in the metrics now."""
        self.add_up()
        return []
