"""What the graph of each stage takes and gives, by name: for who writes, runs and checks graphs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageSignature:
    """Names of a graph's inputs and outputs, in their order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, stage: int, num_experts: int) -> StageSignature:
        """Of the graph of a stage (from 1)."""
        first, last = stage == 1, stage == num_experts
        inputs = ("image",) if first else ("features",) if last else ("features", "prefix_sum")
        passed_on = ("features",) if first and not last else ()
        score = () if last else ("score",)
        return cls(inputs, (*passed_on, "logits", "embedding", *score))

    @property
    def routing_outputs(self) -> list[str]:
        """Without the embedding, which routing does not need: where nobody asks, it costs none."""
        return [name for name in self.outputs if name != "embedding"]
