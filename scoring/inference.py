"""What is done with a batch: one stage here, or all of them by a server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from scoring.blocks import Block
from scoring.parts import Indices
from serving.engine.graphs import Engine, host
from serving.model.routing import Float, Routed


@dataclass(frozen=True)
class Inferred:
    """What became of a batch of N rows.

    Attributes:
        done: int64 [n], the rows that go no further.
        answers: of these.
        onward: the others, as they wait for the next step; None where all are done.
        embeddings: fp32 [n, D], of the rows that are done, where they are kept.
    """

    done: Indices
    answers: Routed
    onward: Block | None = None
    embeddings: Float | None = None


class BatchInference(Protocol):
    """Takes batches through so many steps, before each of which rows of other files may join."""

    @property
    def steps(self) -> int:
        """How many; what is left after the last is done."""

    def infer(self, step: int, block: Block) -> Inferred:
        """A batch through a step, from 1. Several threads may.

        Raises:
            ScoringError: if a server fails.
            InferenceError: if the runtime does.
        """


class StageInference:
    """A step is a stage of the model in this process."""

    def __init__(self, engine: Engine, *, embeddings: bool) -> None:
        self._engine = engine
        self._embeddings = embeddings

    @property
    def steps(self) -> int:
        """As of every `BatchInference`."""
        return self._engine.manifest.num_experts

    def infer(self, step: int, block: Block) -> Inferred:
        """As of every `BatchInference`."""
        call = block.state.call(step)
        run = self._engine.run_stage(call, block.inputs, embedding=self._embeddings)
        on = block.state.advance(call, run.output)
        done = np.delete(np.arange(len(block)), on)
        onward = replace(block, inputs=host(run.features)).take(on) if len(on) else None
        kept = None if run.embedding is None else run.embedding[done]
        return Inferred(done, block.state.answers(done), onward, kept)
