"""What one run of `ride bench` measures, with what, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import TOOLS
from benchmarks.images import SampleImages


@dataclass(frozen=True)
class Plan:
    """Settings of a run.

    Attributes:
        repository: the model repository that is served.
        images: what is sent.
        every: which of the test images they are: every n-th.
        duration_s: about how long each point of a table is measured.
        clients: numbers of clients that ask at the same time.
        objective_ms: the time to an answer that counts as good under too much load.
        memory_requests: how many requests the memory test sends.
        int8: an int8 export of the same model, if it is to be measured too.
        tools: where other servers are installed.
        say: told what is being done, a line at a time.
    """

    repository: Path
    images: SampleImages
    every: int
    duration_s: float
    clients: Sequence[int]
    objective_ms: float
    memory_requests: int
    int8: Path | None = None
    tools: Path = TOOLS
    say: Callable[[str], None] = print
