"""What is asked of a scoring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scoring.errors import ScoringError
from scoring.parts import KeptFields
from serving.engine.graphs import Engine
from serving.engine.provider import Provider
from serving.model.routing import RoutingRule

_BATCH_ON_CPU = 64
_BATCH_ON_ACCELERATOR = 256


@dataclass(frozen=True)
class Routing:
    """How far images go, as it was asked for; at most one of the four but `max_experts`."""

    quality: str | None = None
    threshold: float | None = None
    max_experts: int | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        given = [self.quality, self.threshold, self.budget]
        if sum(wish is not None for wish in given) > 1:
            raise ScoringError("give one of --quality, --threshold and --budget")
        if self.budget is not None and self.max_experts is not None:
            raise ScoringError("--budget chooses how many experts images take: no --max-experts")

    def rule(self, engine: Engine) -> RoutingRule:
        """What it means for a model; for a budget, where the search for thresholds begins.

        Raises:
            InvalidRequest: if a wish is out of range.
        """
        return engine.rule(self.max_experts, self.threshold, self.quality)


@dataclass(frozen=True)
class RayCluster:
    """Where Ray's workers run.

    Attributes:
        address: of a running cluster: `auto` or HOST:PORT; None for a cluster of this machine
            alone, for as long as the run takes.
        actors: workers; None for one a node, or one a GPU.
    """

    address: str | None = None
    actors: int | None = None


@dataclass(frozen=True)
class ScoringRequest:
    """What to score, with what, and where to.

    Attributes:
        inputs: folders, globs, files and URLs.
        output: the folder.
        repository: the model repository; its latest version answers.
        kept: what is kept of an answer.
        column: of the images; None to find it.
        labels: column of the labels; None for none.
        routing: how far images go.
        part_rows: rows of a part, at most.
        provider: where graphs run.
        workers: threads; 0 for one a core.
        batch_size: rows of a full batch; None for what suits the provider.
        resume: go on although lists, Parquet or tar files were written anew.
        overwrite: remove what another run has written.
        ray: where Ray scores; None to score in this process.
    """

    inputs: tuple[str, ...]
    output: Path
    repository: Path
    kept: KeptFields
    column: str | None = None
    labels: str | None = None
    routing: Routing = Routing()
    part_rows: int = 5000
    provider: Provider = Provider.CPU
    workers: int = 0
    batch_size: int | None = None
    resume: bool = False
    overwrite: bool = False
    ray: RayCluster | None = None

    @property
    def threads(self) -> int:
        """Workers, resolved."""
        if hasattr(os, "sched_getaffinity"):
            return self.workers or len(os.sched_getaffinity(0))
        return self.workers or os.cpu_count() or 1

    @property
    def rows_of_a_batch(self) -> int:
        """The batch size, resolved."""
        on_cpu = self.provider is Provider.CPU
        return self.batch_size or (_BATCH_ON_CPU if on_cpu else _BATCH_ON_ACCELERATOR)
