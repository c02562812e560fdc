"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.model.shot_groups import GROUPS
from serving.tracing.terminal import escaped

_MOST_CHANGES = 10


def show_comparison(found: Mapping[str, Any], console: Console) -> None:
    """Print a comparison as `scoring.compare.session` makes it."""
    for title, headers, rows in (
        ("Images", ("", "images", "share"), _images(found)),
        ("Runs", ("", "A", "B", "B - A"), _both(found)),
        ("Experts: A down, B across", *_experts(found["experts"]["matrix"])),
        (
            f"Labels: {found['labels']['changes']:,} changes",
            ("was", "is", "images"),
            _changes(found),
        ),
        (
            "Accuracy",
            ("", "images", "A", "B", "B - A", "95 % interval", "McNemar p"),
            _accuracy(found),
        ),
    ):
        _print(console, title, headers, list(rows))


def _print(
    console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if not rows:
        return
    console.print(Text(title))  # a title of the table's own would be wrapped to its width
    table = Table()
    for header in headers:
        table.add_column(header, justify="left" if header in {"", "was", "is"} else "right")
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))  # Text: brackets are no markup
    console.print(table)


def _images(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    images, labels, errors = found["images"], found["labels"], found["errors"]
    common = images["common"]
    yield ("in both", f"{common:,}", "")
    yield ("label changed", f"{labels['changed']:,}", f"{labels['changed_share']:.2%}")
    for side, other in (("a", "B"), ("b", "A")):
        if count := images[f"only_in_{side}"]:
            example = images[f"examples_only_in_{side}"][0]
            yield (f"missing in {other}, such as {example}", f"{count:,}", "")
    if images["only_in_a"] or images["only_in_b"]:
        share = images["changed_or_missing_share"]
        yield ("label changed or missing", f"{images['changed_or_missing']:,}", f"{share:.2%}")
    for what, kinds in (("new", errors["appeared"]), ("gone", errors["went_away"])):
        for kind, count in kinds.items():
            yield (f"error {what}: {kind}", f"{count:,}", f"{count / common:.2%}")
    if count := errors["in_both"]:
        yield ("error in both", f"{count:,}", f"{count / common:.2%}")
    of = found["agreement"]["grouped_by"].replace("_", " ").replace(" a", " A")
    for group in GROUPS:
        if (share := found["agreement"][group]) is not None:
            yield (f"same label, {group}-shot {of}", "", f"{share:.2%}")


def _both(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    experts, confidence = found["experts"], found["confidence"]
    if experts["mean"]["a"] is None:
        return
    yield _row("mean experts", experts["mean"]["a"], experts["mean"]["b"])
    a, b = confidence["a"], confidence["b"]
    yield _row("mean confidence", a["mean"], b["mean"])
    for share, value in a["quantiles"].items():
        yield _row(f"confidence, {float(share):.0%} quantile", value, b["quantiles"][share])
    change = confidence["change"]
    yield ("change of an image's confidence, mean", "", "", f"{change['mean']:.4f}")
    for share, value in change["quantiles"].items():
        yield (f"change, {float(share):.0%} quantile", "", "", f"{value:.4f}")
    yield ("total variation of confidence", "", "", f"{confidence['total_variation']:.4f}")
    yield ("population stability index", "", "", f"{confidence['stability_index']:.4f}")


def _experts(matrix: Sequence[Sequence[int]]) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    headers = ("", *map(str, range(1, len(matrix) + 1)))
    return headers, [(str(i), *(f"{n:,}" for n in row)) for i, row in enumerate(matrix, start=1)]


def _changes(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for change in found["labels"]["most_frequent"][:_MOST_CHANGES]:
        was, is_ = (change[key] or "(no answer)" for key in ("was", "is"))
        yield (was, is_, f"{change['images']:,}")


def _accuracy(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name in ("overall", *GROUPS):
        if right := (found["accuracy"] or {}).get(name):
            low, high = right["interval"]
            yield (
                name,
                f"{right['images']:,}",
                f"{right['a']:.2%}",
                f"{right['b']:.2%}",
                f"{right['difference']:+.2%}",
                f"{low:+.2%} to {high:+.2%}",
                f"{right['p_value']:.2g}",
            )


def _row(name: str, a: float, b: float) -> Sequence[str]:
    return (name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}")
