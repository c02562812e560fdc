"""Rows between two stages, in arrays: rows of many parts side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoring.parts import Indices
from serving.model.routing import RoutingState


@dataclass(frozen=True)
class Block:
    """N rows that wait for a stage.

    Attributes:
        inputs: images, uint8 [N, H, W, 3], for stage 1 and features, fp32 [N, ..], for others.
        state: where they stand.
        parts: int64 [N], the code of the part that each belongs to.
        rows: int64 [N], the row there.
    """

    inputs: NDArray[Any]
    state: RoutingState
    parts: Indices
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def concatenate(cls, blocks: Sequence[Block]) -> Block:
        """The rows of several blocks, in order; without a copy where there is one."""
        if len(blocks) == 1:
            return blocks[0]
        return cls(
            np.concatenate([block.inputs for block in blocks]),
            RoutingState.concatenate([block.state for block in blocks]),
            np.concatenate([block.parts for block in blocks]),
            np.concatenate([block.rows for block in blocks]),
        )

    def take(self, rows: Indices | slice) -> Block:
        """A block of these rows alone."""
        return Block(self.inputs[rows], self.state.take(rows), self.parts[rows], self.rows[rows])


class BlockQueue:
    """Blocks that wait for a stage, first come, first served.

    Attributes:
        rows: of all of them.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._blocks: deque[Block] = deque()

    def put(self, block: Block) -> None:
        """Add a block at the end."""
        self._blocks.append(block)
        self.rows += len(block)

    def take(self, most: int) -> list[Block]:
        """Take the first rows, at most so many; a block may be cut in two."""
        taken, rows = [], 0
        while self._blocks and rows < most:
            block = self._blocks.popleft()
            wanted = most - rows
            if len(block) > wanted:
                self._blocks.appendleft(block.take(slice(wanted, None)))
                block = block.take(slice(wanted))
            taken.append(block)
            rows += len(block)
        self.rows -= rows
        return taken
