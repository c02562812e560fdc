"""How long the full ensemble would have run on the images that routing spared some experts. Pure.

What a batch of each size costs in each stage was measured at the start (`StageCosts`). A machine
that was busy then measured badly, so each stage's costs are scaled by what its batches take while
serving; only how cost grows with the batch is taken from the start.
"""

from __future__ import annotations

from serving.engine.stage_costs import StageCosts

_MEMORY = 0.02
"""Weight of the newest batch in the moving average of a stage's scale."""


class FullEnsembleEstimate:
    """Learns from every batch; an estimate follows from each that begins with stage 1."""

    def __init__(self, costs: StageCosts) -> None:
        self._costs = costs
        self._scales = [1.0] * len(costs.seconds)

    def observe(self, stage: int, rows: int, seconds: float) -> float:
        """Take note of a batch of a stage (from 1), and how long its graph took.

        Returns:
            Seconds in which all stages would have run on these rows together, if they begin here,
            else 0. Whatever made this very batch slow would have slowed down the other stages too.
        """
        measured = seconds / self._costs.of(stage, rows)
        self._scales[stage - 1] += _MEMORY * (measured - self._scales[stage - 1])
        if stage != 1:
            return 0.0
        expected = [scale * self._costs.of(at, rows) for at, scale in enumerate(self._scales, 1)]
        return seconds * sum(expected) / expected[0]
