"""What `ride compare` does, apart from reading its flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scoring.compare.counts import ComparisonCounts, DistributionCounts
from scoring.compare.pairing import paired
from scoring.compare.runs import NULL_CODE, ScoredRun, StringCodes, open_run
from scoring.compare.statistics import ContingencyTable, bin_quantile, distribution_shift
from scoring.errors import InputError
from serving.model.shot_groups import GROUPS

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_PAIRS = 20


def compare_runs(folder_a: Path, folder_b: Path) -> dict[str, Any]:
    """How the run in the second folder differs from that in the first, in plain JSON types.

    docs/scoring.md describes the fields.

    Raises:
        InputError: if a folder holds no finished run, or they have no image in common.
    """
    a, b, codes = open_run(folder_a), open_run(folder_b), StringCodes()
    counts = ComparisonCounts()
    for rows in paired(a.blocks(codes), b.blocks(codes), max(a.images, b.images)):
        counts.add(rows)
    if not counts.common:
        raise InputError(
            f"no image is in {folder_a} and in {folder_b}: images are known by their ids, such as "
            f"{counts.examples_a[0]} and {counts.examples_b[0]}"
        )
    names = [*codes.names, None]  # NULL_CODE is -1
    return {
        "a": _about(a),
        "b": _about(b),
        "images": _images(counts),
        "labels": _labels(counts, names),
        "agreement": _agreement(counts, names, {**b.shot_groups, **a.shot_groups}),
        "errors": _errors(counts, names),
        "experts": _experts(counts),
        "confidence": _confidence(counts),
        "accuracy": _accuracy(counts, names, {**b.shot_groups, **a.shot_groups}),
    }


def _about(run: ScoredRun) -> dict[str, Any]:
    about = {key: run.about.get(key) for key in ("model", "rule")}
    return {"folder": str(run.folder), "images": run.images, **about}


def _images(counts: ComparisonCounts) -> dict[str, Any]:
    missing = counts.only_a + counts.only_b
    changed = counts.changed + missing
    return {
        "common": counts.common,
        "only_in_a": counts.only_a,
        "only_in_b": counts.only_b,
        "examples_only_in_a": counts.examples_a,
        "examples_only_in_b": counts.examples_b,
        "changed_or_missing": changed,
        "changed_or_missing_share": changed / (counts.common + missing),
    }


def _labels(counts: ComparisonCounts, names: Sequence[str | None]) -> dict[str, Any]:
    changes = counts.changes
    return {
        "changed": counts.changed,
        "changed_share": counts.changed / counts.common,
        "changes": len(changes),
        "most_frequent": [
            {"was": names[was], "is": names[is_], "images": n}
            for (was, is_), n in sorted(changes.items(), key=lambda each: (-each[1], each[0]))
        ][:_MOST_PAIRS],
    }


def _agreement(
    counts: ComparisonCounts, names: Sequence[str | None], groups: Mapping[str, str]
) -> dict[str, Any]:
    """Shares of the same label: by the group of the true label, else of the label in A."""
    by_class = counts.by_true_class
    if not by_class:
        by_class = Counter()
        for (was, is_), n in counts.labels.items():
            by_class[was, int(was == is_)] += n

    def share(wanted: Callable[[int], bool]) -> float | None:
        images = sum(n for (code, _), n in by_class.items() if wanted(code))
        same = sum(n for (code, same), n in by_class.items() if same and wanted(code))
        return same / images if images else None

    def belongs(group: str) -> Callable[[int], bool]:
        return lambda code: groups.get(names[code] or "") == group

    return {
        "grouped_by": "true_label" if counts.by_true_class else "label_in_a",
        **{group: share(belongs(group)) for group in GROUPS},
    }


def _errors(counts: ComparisonCounts, names: Sequence[str | None]) -> dict[str, Any]:
    appeared, went_away = Counter[str](), Counter[str]()
    both = 0
    for (was, is_), n in counts.errors.items():
        if NULL_CODE not in (was, is_):
            both += n
        elif is_ != NULL_CODE:
            appeared[str(names[is_])] += n
        elif was != NULL_CODE:
            went_away[str(names[was])] += n
    return {"appeared": dict(appeared), "went_away": dict(went_away), "in_both": both}


def _experts(counts: ComparisonCounts) -> dict[str, Any]:
    most = max((max(pair) for pair in counts.experts), default=0)
    matrix = np.zeros((most, most), dtype=np.int64)
    for (was, is_), n in counts.experts.items():
        matrix[was - 1, is_ - 1] = n
    experts = np.arange(1, most + 1)
    used = {"a": matrix.sum(axis=1), "b": matrix.sum(axis=0)}
    total = int(matrix.sum())
    return {
        "mean": {side: float(n @ experts) / total if total else None for side, n in used.items()},
        "used": {side: n.tolist() for side, n in used.items()},
        "matrix": matrix.tolist(),
    }


def _confidence(counts: ComparisonCounts) -> dict[str, Any]:
    a, b = counts.confidence_a, counts.confidence_b
    found = distribution_shift(a.bins, b.bins)
    return {
        "a": _distribution(a),
        "b": _distribution(b),
        "change": {**_distribution(counts.change), "most": counts.change.most},
        "total_variation": found and found.total_variation,
        "stability_index": found and found.stability_index,
    }


def _distribution(values: DistributionCounts) -> dict[str, Any]:
    quantiles = {str(share): bin_quantile(values.bins, share) for share in _QUANTILES}
    return {"mean": values.mean, "quantiles": quantiles}


def _accuracy(
    counts: ComparisonCounts, names: Sequence[str | None], groups: Mapping[str, str]
) -> dict[str, Any] | None:
    if not counts.right:
        return None
    total = sum(counts.right.values(), ContingencyTable())
    by_group: dict[str, Any] = {}
    for group in GROUPS:
        its = [n for code, n in counts.right.items() if groups.get(names[code] or "") == group]
        by_group[group] = _right(sum(its, ContingencyTable())) if its else None
    return {"labels_differ": counts.labels_differ, "overall": _right(total), **by_group}


def _right(found: ContingencyTable) -> dict[str, Any]:
    difference, low, high = found.difference()
    return {
        "images": found.images,
        "a": (found.both + found.only_a) / found.images,
        "b": (found.both + found.only_b) / found.images,
        "difference": difference,
        "interval": [low, high],
        "p_value": found.p_value,
        "right": asdict(found),
    }
