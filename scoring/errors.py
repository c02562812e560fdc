"""What can go wrong in offline scoring.

    ScoringError
    |-- InputError      an input that isn't there, can't be read, or holds no images
    |-- OutputError     an output folder that can't be written, or is of another run
    |-- RayError        a cluster that can't be reached, or whose workers fail
    |-- ServerError     a server that can't be reached, or that fails
    `-- ScoringStopped  stopped by Ctrl-C or SIGTERM; the same command goes on

An image that can't be scored is none of these: it is a row with an error.
"""

from __future__ import annotations


class ScoringError(Exception):
    """Base of everything that a user of `ride score` can mend."""


class InputError(ScoringError):
    """An input that can't be scored as a whole."""


class OutputError(ScoringError):
    """An output folder that can't be used."""


class RayError(ScoringError):
    """A cluster that can't score."""


class ServerError(ScoringError):
    """A server that can't score."""


class ScoringStopped(ScoringError):
    """A signal ended the run early."""


def one_line(error: BaseException) -> str:
    """What an error says; Arrow's and those of file systems may have several lines."""
    return " ".join(str(error).split())
