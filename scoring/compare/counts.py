"""What differs between two runs, counted block by block."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scoring.compare.pairing import PairedRows
from scoring.compare.runs import NULL_CODE
from scoring.compare.statistics import BINS, ContingencyTable, histogram

_MOST_EXAMPLES = 5

CodeArray = NDArray[np.int32]
Pairs = Counter[tuple[int, int]]


def _histogram() -> NDArray[np.int64]:
    return np.zeros(BINS, dtype=np.int64)


@dataclass
class DistributionCounts:
    """Of values from 0 to 1: their histogram, sum and largest."""

    bins: NDArray[np.int64] = field(default_factory=_histogram)
    total: float = 0.0
    most: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count more of them."""
        if len(values):
            self.bins += histogram(values)
            self.total += float(values.sum(dtype=np.float64))
            self.most = max(self.most, float(values.max()))

    @property
    def mean(self) -> float | None:
        """Of all values; None of none."""
        count = int(self.bins.sum())
        return self.total / count if count else None


@dataclass
class ComparisonCounts:
    """Of all rows. Labels and kinds of errors are codes; NULL_CODE is no answer, or no error.

    Attributes:
        common, only_a, only_b: images of both runs, of the one, of the other.
        examples_a, examples_b: some ids of the latter two.
        labels: images of both by their two labels.
        errors: images of both by their two kinds of errors.
        by_true_class: images of both by their true label and whether their two labels are the same.
        experts: images that both answer by the experts that they took.
        confidence_a, confidence_b: the probabilities of their labels.
        change: by how much those two differ.
        right: images that both answer, with a true label, by this label.
        labels_differ: images whose true labels differ, which count in neither of the last two.
    """

    common: int = 0
    only_a: int = 0
    only_b: int = 0
    examples_a: list[str] = field(default_factory=list)
    examples_b: list[str] = field(default_factory=list)
    labels: Pairs = field(default_factory=Counter)
    errors: Pairs = field(default_factory=Counter)
    by_true_class: Pairs = field(default_factory=Counter)
    experts: Pairs = field(default_factory=Counter)
    confidence_a: DistributionCounts = field(default_factory=DistributionCounts)
    confidence_b: DistributionCounts = field(default_factory=DistributionCounts)
    change: DistributionCounts = field(default_factory=DistributionCounts)
    right: dict[int, ContingencyTable] = field(default_factory=dict)
    labels_differ: int = 0

    @property
    def changes(self) -> Pairs:
        """Images of both by their two labels, where these differ."""
        return Counter({pair: n for pair, n in self.labels.items() if pair[0] != pair[1]})

    @property
    def changed(self) -> int:
        """Images of both whose labels differ."""
        return self.changes.total()

    def add(self, rows: PairedRows) -> None:
        """Count some rows of both runs."""
        self.common += len(rows.a)
        self.only_a += len(rows.only_a)
        self.only_b += len(rows.only_b)
        _add_examples(self.examples_a, rows.only_a)
        _add_examples(self.examples_b, rows.only_b)
        was, is_ = _ints(rows.a, "label"), _ints(rows.b, "label")
        _count(self.labels, was, is_)
        _count(self.errors, _ints(rows.a, "error_kind"), _ints(rows.b, "error_kind"))
        answered = (was != NULL_CODE) & (is_ != NULL_CODE)
        used = [_ints(side, "experts_used")[answered] for side in (rows.a, rows.b)]
        _count(self.experts, *used)
        sure_a, sure_b = (side["probability"].to_numpy()[answered] for side in (rows.a, rows.b))
        self.confidence_a.add(sure_a)
        self.confidence_b.add(sure_b)
        self.change.add(np.abs(sure_b - sure_a))
        self._add_truth(rows, was, is_)

    def _add_truth(self, rows: PairedRows, was: CodeArray, is_: CodeArray) -> None:
        """One run with labels is enough: they are the images', not the model's."""
        in_a, in_b = _ints(rows.a, "true_label"), _ints(rows.b, "true_label")
        differ = (in_a != in_b) & (in_a != NULL_CODE) & (in_b != NULL_CODE)
        self.labels_differ += int(differ.sum())
        truth = np.where(in_a == NULL_CODE, in_b, in_a)
        known = (truth != NULL_CODE) & ~differ
        _count(self.by_true_class, truth[known], (was == is_)[known])
        both = known & (was != NULL_CODE) & (is_ != NULL_CODE)
        found: Pairs = Counter()
        _count(found, truth[both], (was == truth)[both] * 2 + (is_ == truth)[both])
        for code in {code for code, _ in found}:
            right = ContingencyTable(*(found[code, kind] for kind in (3, 2, 1, 0)))
            self.right[code] = self.right.get(code, ContingencyTable()) + right


def _ints(rows: pa.RecordBatch, name: str) -> CodeArray:
    found: CodeArray = rows[name].to_numpy()
    return found


def _count(pairs: Pairs, a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
    found, counts = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    keys = zip(*found.tolist(), strict=True)
    pairs.update(dict(zip(keys, counts.tolist(), strict=True)))


def _add_examples(examples: list[str], rows: pa.RecordBatch) -> None:
    missing = _MOST_EXAMPLES - len(examples)
    examples += rows["id"].slice(0, missing).to_pylist() if missing else []
