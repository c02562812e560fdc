"""The summary on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.tracing.terminal import escaped

_MOST_LABELS = 10


def show_summary(found: Mapping[str, Any], console: Console) -> None:
    """Print a summary as `scoring.summary` makes it."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in _rows(found).items():
        table.add_row(
            Text(escaped(name)), Text(value)
        )  # Text, because brackets in a name are no markup
    console.print(table)


def _rows(found: Mapping[str, Any]) -> dict[str, str]:
    rows = {"images": f"{found['images']:,}"}
    for kind, count in found["errors"].items():
        rows[f"without an answer: {kind}"] = f"{count:,}"
    for kind, count in found.get("left_out", {}).items():  # summaries of earlier versions have none
        rows[f"left out: {kind}"] = f"{count:,}"
    rows["images/s"] = _number(found["images_per_second"], ",.0f")
    rows["mean experts"] = _number(found["mean_experts"], ".2f")
    rows["compute avoided"] = _number(found["compute_avoided"], ".1%")
    rows |= _accuracy(found["accuracy"] or {})
    labels = list(found["labels"].items())
    for label, count in labels[:_MOST_LABELS]:
        rows[label] = f"{count:,}"
    if len(labels) > _MOST_LABELS:
        others = sum(count for _, count in labels[_MOST_LABELS:])
        rows[f"{len(labels) - _MOST_LABELS} other labels"] = f"{others:,}"
    return rows


def _accuracy(accuracy: Mapping[str, Any]) -> dict[str, str]:
    if not accuracy:
        return {}
    rows = {"top-1": _number(accuracy["overall"], ".1%")}
    for group in ("many", "medium", "few"):
        rows[f"top-1, {group}-shot classes"] = _number(accuracy[group], ".1%")
    if accuracy["unknown_labels"]:
        rows["labels that are no class"] = f"{accuracy['unknown_labels']:,}"
    return rows


def _number(value: float | None, shape: str) -> str:
    return "none" if value is None else format(value, shape)
