"""How `ride train` ended, and what it said."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """Exit status and output of a command."""

    status: int
    stdout: str
    stderr: str


RideTrain = Callable[..., Outcome]


def assert_refused(done: Outcome, *said: str) -> None:
    """Exit status 1 and one sentence on stderr, before anything was begun."""
    assert_one_sentence(done, *said)
    assert done.stdout == ""


def assert_one_sentence(done: Outcome, *said: str) -> None:
    """Exit status 1 and one sentence on stderr."""
    assert done.status == 1
    assert done.stderr.startswith("ride: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(words in done.stderr for words in said), done.stderr
