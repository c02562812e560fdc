"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A whole table; bars in cells are escaped."""
    return "".join(f"{row(line)}\n" for line in (columns, ["---"] * len(columns), *rows))


def row(values: Sequence[object]) -> str:
    """A line of one, without its end."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in values) + " |"


def cells(columns: Mapping[str, str], figures: Mapping[str, Any]) -> list[str]:
    """Figures as columns want them: a column's title leads to its format, `{name:.2f}`."""
    return [form.format_map(figures) for form in columns.values()]
