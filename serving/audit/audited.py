"""What the full ensemble says of images that were answered with fewer experts. Pure.

Nobody knows the right class of an image in production. So everything here is measured against the
full ensemble's answer, the best that the model can give; docs/audit.md says what follows.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.routing import Float


@dataclass(frozen=True)
class AuditedImages:
    """N audited images of a model of K experts.

    Attributes:
        router_scores: fp32 [N, K-1], of all routers, those that were not asked then included.
        predictions: int32 [N, K], the class that the first 1, 2, .. K experts answer.
        experts_used: int32 [N], how many the image had taken.
        answers: int32 [N], the class that the client was told.
        groups: int8 [N], the shot group of the full ensemble's answer, a place in `GROUPS`.
        accuracy_lost: fp32 [N], the full ensemble's probability of its own answer less that of
            the client's: the accuracy lost, as far as these probabilities can be believed.
    """

    router_scores: Float
    predictions: NDArray[np.int32]
    experts_used: NDArray[np.int32]
    answers: NDArray[np.int32]
    groups: NDArray[np.int8]
    accuracy_lost: Float

    @classmethod
    def empty(cls, rows: int, num_experts: int) -> AuditedImages:
        """Room for so many images."""
        return cls(
            router_scores=np.zeros((rows, num_experts - 1), dtype=np.float32),
            predictions=np.zeros((rows, num_experts), dtype=np.int32),
            experts_used=np.zeros(rows, dtype=np.int32),
            answers=np.zeros(rows, dtype=np.int32),
            groups=np.zeros(rows, dtype=np.int8),
            accuracy_lost=np.zeros(rows, dtype=np.float32),
        )

    def __len__(self) -> int:
        return len(self.answers)

    def rows(self, chosen: slice) -> AuditedImages:
        """A copy of some of them."""
        return AuditedImages(*(array[chosen].copy() for array in self._arrays()))

    def put(self, row: int, other: AuditedImages) -> None:
        """Overwrite a row with another's only one."""
        for mine, theirs in zip(self._arrays(), other._arrays(), strict=True):
            mine[row] = theirs[0]

    @property
    def num_experts(self) -> int:
        """K."""
        experts: int = self.predictions.shape[1]
        return experts

    @property
    def agreed(self) -> NDArray[np.bool_]:
        """[N]: the client was told what the full ensemble says."""
        agreed: NDArray[np.bool_] = self.answers == self.predictions[:, -1]
        return agreed

    @property
    def missed_help(self) -> NDArray[np.bool_]:
        """[N]: it stopped before the last expert, and the full ensemble says something else."""
        return ~self.agreed & (self.experts_used < self.num_experts)

    @property
    def flips(self) -> NDArray[np.bool_]:
        """[N, K-1]: the answer changes when expert 2, 3, .. K joins."""
        flips: NDArray[np.bool_] = self.predictions[:, 1:] != self.predictions[:, :-1]
        return flips

    @property
    def wasted_experts(self) -> NDArray[np.int64]:
        """[N]: experts taken after the answer was the full ensemble's, and never changed again."""
        settled = (self.predictions == self.predictions[:, -1:])[:, ::-1]
        needed = self.num_experts + 1 - np.logical_and.accumulate(settled, axis=1).sum(axis=1)
        wasted: NDArray[np.int64] = np.maximum(0, self.experts_used - needed)
        return wasted

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


class AuditWindow:
    """The newest audited images, so many at most. Any thread may use it."""

    def __init__(self, capacity: int, num_experts: int) -> None:
        self.capacity = capacity
        self._images = AuditedImages.empty(capacity, num_experts)
        self._added = 0
        self._lock = threading.Lock()

    def add(self, image: AuditedImages) -> None:
        """Take in one image."""
        with self._lock:
            self._images.put(self._added % self.capacity, image)
            self._added += 1

    def all(self) -> AuditedImages:
        """A copy, in no particular order."""
        with self._lock:
            return self._images.rows(slice(min(self._added, self.capacity)))
