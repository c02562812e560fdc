"""What the scheduler tells those who count: no more than that, so that they need no runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.model.routing import Routed


@dataclass(frozen=True)
class BatchReport:
    """What a worker did with a batch, for whoever counts.

    Attributes:
        stage: from 1.
        rows: of the batch.
        queue_seconds: fp64 [rows], how long each waited for this stage.
        seconds: that the stage's graph took.
        done: the answers of the rows that went no further.
        exemplar: of the request of the first of these, if it has one.
    """

    stage: int
    rows: int
    queue_seconds: NDArray[np.float64]
    seconds: float
    done: Routed
    exemplar: dict[str, str] | None = None
