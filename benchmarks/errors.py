"""What can keep a measurement from being made.

BenchmarkError
|-- ToolMissing        a program that measures, or a server to compare with, can't be installed
|-- LoadFailed         the load generator ended with an error, or its report can't be read
|   `-- LoadTimedOut     it did not end at all
`-- ServerFailed       a server did not start, or ended while it was measured
"""

from __future__ import annotations


class BenchmarkError(Exception):
    """Base of every error with a message that may be shown to a user."""


class ToolMissing(BenchmarkError):
    """A tool that is not there and can't be installed here."""


class LoadFailed(BenchmarkError):
    """No figures came out of a load generator."""


class LoadTimedOut(LoadFailed):
    """A load generator that took far longer than it should: it hangs, or the server does."""


class ServerFailed(BenchmarkError):
    """A server under measurement is not there any more, or never was."""
