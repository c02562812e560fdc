"""What a scoring found, counted: part by part while it runs, and in all at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoring.parts import Part
from serving.model.manifest import Manifest
from serving.model.multiply_adds import spent_on_answers
from serving.model.shot_groups import GROUPS, shot_groups


@dataclass(frozen=True)
class RowCounts:
    """Of some rows.

    Attributes:
        images: rows, with an answer or without.
        errors: rows without an answer, by kind.
        experts_used: rows that took 1, 2, .. K experts.
        multiply_adds: spent.
        labels: answers by class.
        labelled: rows with an answer and a known label, by the label's class.
        correct: those of them that are answered right, by class.
        unknown_labels: rows whose label is missing or no class of the model.
    """

    images: int
    errors: Counter[str]
    experts_used: tuple[int, ...]
    multiply_adds: int
    labels: Counter[int]
    labelled: Counter[int]
    correct: Counter[int]
    unknown_labels: int

    @classmethod
    def of(cls, part: Part, truth: NDArray[np.int32], manifest: Manifest) -> RowCounts:
        """Count a part's rows; `truth` int32 [N] are the classes of their labels, -1 for none."""
        n = len(part)
        answered = part.experts_used[:n] > 0
        used, scores = part.experts_used[:n][answered], part.router_scores[:n][answered]
        labels, known = part.top_indices[:n, 0][answered], truth[answered]
        right = known[known == labels]
        return cls(
            images=n,
            errors=Counter(str(fault.kind) for fault in part.faults.values()),
            experts_used=tuple(np.bincount(used, minlength=manifest.num_experts + 1)[1:].tolist()),
            multiply_adds=spent_on_answers(used, scores, manifest.multiply_adds),
            labels=_by_class(labels),
            labelled=_by_class(known[known >= 0]),
            correct=_by_class(right),
            unknown_labels=int((truth < 0).sum()),
        )

    @classmethod
    def total(cls, counts: Sequence[RowCounts], num_experts: int) -> RowCounts:
        """All of them together."""

        def added(name: str) -> Counter[Any]:
            total: Counter[Any] = Counter()
            for each in counts:
                total.update(getattr(each, name))
            return total

        experts = np.zeros(num_experts, dtype=np.int64)
        for each in counts:
            experts += each.experts_used
        return cls(
            images=sum(each.images for each in counts),
            errors=added("errors"),
            experts_used=tuple(experts.tolist()),
            multiply_adds=sum(each.multiply_adds for each in counts),
            labels=added("labels"),
            labelled=added("labelled"),
            correct=added("correct"),
            unknown_labels=sum(each.unknown_labels for each in counts),
        )


def _by_class(classes: NDArray[Any]) -> Counter[int]:
    numbers, counts = np.unique(classes, return_counts=True)
    return Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def summarize(
    counts: RowCounts, manifest: Manifest, *, labelled: bool, scored: int, seconds: float
) -> dict[str, Any]:
    """The summary in plain JSON types; docs/scoring.md describes it.

    Args:
        counts: of all rows.
        manifest: of the model.
        labelled: whether labels were read.
        scored: rows that were scored since the command was started.
        seconds: that this took.
    """
    answered = sum(counts.experts_used)
    experts = sum(i * count for i, count in enumerate(counts.experts_used, start=1))
    everything = answered * manifest.multiply_adds.all_experts
    names = manifest.class_names
    return {
        "images": counts.images,
        "answered": answered,
        "errors": dict(counts.errors),
        "images_per_second": scored / seconds if scored else None,
        "mean_experts": experts / answered if answered else None,
        "experts_used": list(counts.experts_used),
        "mean_multiply_adds": counts.multiply_adds / answered if answered else None,
        "compute_avoided": 1 - counts.multiply_adds / everything if answered else None,
        "labels": {names[i]: count for i, count in counts.labels.most_common()},
        "accuracy": _accuracy(counts, manifest) if labelled else None,
    }


def _accuracy(counts: RowCounts, manifest: Manifest) -> dict[str, Any]:
    """Top-1 as shares of the images that have an answer and a known label."""
    groups = shot_groups(manifest.class_counts)

    def share(classes: Sequence[int]) -> float | None:
        images = sum(counts.labelled.get(each, 0) for each in classes)
        return sum(counts.correct.get(each, 0) for each in classes) / images if images else None

    return {
        "images": sum(counts.labelled.values()),
        "correct": sum(counts.correct.values()),
        "unknown_labels": counts.unknown_labels,
        "overall": share(range(manifest.num_classes)),
        **{
            name: share(np.flatnonzero(groups == place).tolist())
            for place, name in enumerate(GROUPS)
        },
    }
