"""A part: rows of one shard that are written together, filled in whatever order answers come."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.layout import part_name
from scoring.records import Fault, Record, TrueLabel
from scoring.request import KeptFields
from serving.model.routing import Float, Routed
from serving.model.top_k import top_k_classes

Indices = NDArray[np.intp]


@dataclass(frozen=True, order=True)
class PartKey:
    """Part `number` of shard `shard`, both from 0; rows number * part_rows .. of the shard."""

    shard: int
    number: int

    @property
    def file_name(self) -> str:
        """Of its file; names sort as the inputs do."""
        return part_name(self.shard, self.number)

    @property
    def code(self) -> int:
        """The key as one number, for arrays."""
        return self.shard << 32 | self.number


class Part:
    """The rows of a part as they come. Rows of their own may be filled by several threads.

    Attributes:
        key: which part it is.
        last: whether its shard ends with it; known once the part is closed.
        closed: whether it has all its rows.
        left: rows that are neither answered nor faults yet.
        ids, paths, labels: of each row.
        faults: why rows have no answer, by row.
        top_indices, top_probabilities: int32 and fp32 [N, k], best first.
        experts_used: int32 [N]; 0 where there is no answer.
        router_scores: fp32 [N, K-1]; NaN where a router was not asked.
        probabilities, embeddings: fp32 [N, C] and [N, D]; None where they are not kept.
    """

    def __init__(self, key: PartKey, capacity: int, kept: KeptFields, num_experts: int) -> None:
        self.key = key
        self.last = False
        self.closed = False
        self.left = 0
        self.ids: list[str] = []
        self.paths: list[str | None] = []
        self.labels: list[TrueLabel | None] = []
        self.faults: dict[int, Fault] = {}
        self.top_indices = np.zeros((capacity, kept.top_k), dtype=np.int32)
        self.top_probabilities = np.zeros((capacity, kept.top_k), dtype=np.float32)
        self.experts_used = np.zeros(capacity, dtype=np.int32)
        self.router_scores = np.full((capacity, num_experts - 1), np.nan, dtype=np.float32)
        self.probabilities: Float | None = None
        self.embeddings: Float | None = None
        self._capacity = capacity
        self._kept = kept
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, records: Sequence[Record]) -> int:
        """Make room for records; returns the first one's row."""
        first = len(self.ids)
        self.ids += [record.id for record in records]
        self.paths += [record.path for record in records]
        self.labels += [record.label for record in records]
        return first

    def fill(self, rows: Indices, answers: Routed, embeddings: Float | None) -> None:
        """Take over answers [n] into these rows [n]. Several threads may, each its own rows."""
        probabilities = answers.probabilities
        best = top_k_classes(probabilities, self._kept.top_k)
        self.top_indices[rows] = best
        self.top_probabilities[rows] = np.take_along_axis(probabilities, best, axis=1)
        self.experts_used[rows] = answers.experts_used
        self.router_scores[rows] = answers.router_scores

        if self._kept.all_probabilities:
            self._room_for_probabilities(probabilities.shape[1])[rows] = probabilities
        if embeddings is not None:
            self._room_for_embeddings(embeddings.shape[1])[rows] = embeddings

    def _room_for_probabilities(self, classes: int) -> Float:
        with self._lock:
            if self.probabilities is None:
                self.probabilities = np.zeros((self._capacity, classes), dtype=np.float32)
            return self.probabilities

    def _room_for_embeddings(self, width: int) -> Float:
        with self._lock:
            if self.embeddings is None:
                self.embeddings = np.zeros((self._capacity, width), dtype=np.float32)
            return self.embeddings
