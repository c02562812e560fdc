"""Notes of what happened, which cost next to nothing: they are added up later, many at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_MOST_NOTES = 256
"""Few enough that adding them up keeps nobody waiting."""

Note = TypeVar("Note")


class Notes(Generic[Note]):
    """Notes of a kind, added up once many have come together or somebody looks.

    Any thread may do either.
    """

    def __init__(self, add_up: Callable[[list[Note]], object]) -> None:
        self._add_up = add_up
        self._notes: deque[Note] = deque()
        self._adding_up = threading.Lock()

    def add(self, note: Note) -> None:
        """Note something."""
        self._notes.append(note)
        if len(self._notes) >= _MOST_NOTES:
            self.add_up()

    def add_up(self) -> None:
        """Bring the metrics up to date with what was noted."""
        with self._adding_up:  # others may add meanwhile
            self._add_up([self._notes.popleft() for _ in range(len(self._notes))])
