"""Waits for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 60.0
"""Far longer than anything takes on a busy machine."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; fail if it never comes true."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
