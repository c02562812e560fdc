"""Stopping between two steps, never inside one."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self

STOPS = (signal.SIGINT, signal.SIGTERM)
"""How terminals, service managers and users stop a program."""


class InterruptFlag:
    """While entered, the first Ctrl-C or SIGTERM only sets `requested`; a second one acts.

    An optimiser step that is torn in half can't be resumed bit for bit, so the loop looks at the
    flag after each whole step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: list[object] = []

    def __enter__(self) -> Self:
        self._previous = [signal.signal(number, self._handle) for number in STOPS]
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in zip(STOPS, self._previous, strict=False):
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = []
