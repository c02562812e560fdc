"""What a verification found: on a terminal, as Markdown, as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from verify.tally import Listed, Refused, Tally

REFERENCE = "embedded engine"

_SUMMARY = (
    *("engine", "images", "same top-1", "same experts"),
    *("largest probability difference", "ties", "differences"),
)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")


@dataclass(frozen=True)
class Circumstances:
    """What was compared, and by what.

    `versions` are those of packages, by name; `server` is how the server calls itself, with its
    version, or None.
    """

    date: str
    command: str
    images_from: str
    repository: str
    model_version: int
    tolerance: float
    versions: dict[str, str]
    server: str | None = None


@dataclass
class Report:
    """What there is to tell, added up while images are compared.

    Attributes:
        circumstances: of this verification.
        engines: each against the reference.
        images: that were compared so far.
        refused: those that no engine answers.
    """

    circumstances: Circumstances
    engines: list[Tally]
    images: int = 0
    refused: Listed[Refused] = field(default_factory=Listed)

    @property
    def differences(self) -> int:
        """Of all engines together."""
        return sum(tally.differences.count for tally in self.engines)

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.differences:
            return f"Differences from the {REFERENCE}: {self.differences:,}."
        return f"No difference from the {REFERENCE}."

    def show(self, console: Console) -> None:
        """Print all of it."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        summary, *lists = self._parts()
        for column in summary.columns:
            narrow = column.replace(" ", "\n")
            table.add_column(narrow, justify="left" if column == "engine" else "right")
        for row in summary.rows:
            table.add_row(*map(Text, row))  # Text, because brackets in a name are no markup
        _say(console, f"{summary.title}\n")
        console.print(table)
        for part in lists:
            _say(console, f"\n{part.title}")
            for image, *cells in part.rows:
                _say(console, f"  {image}")
                for column, cell in zip(part.columns[1:], cells, strict=True):
                    _say(console, f"    {column}: {cell}")
            if part.more:
                _say(console, f"  and {part.more:,} more")
        _say(console, f"\n{self.verdict}")

    def to_markdown(self) -> str:
        """A page of the same, with the circumstances."""
        return "\n".join(self._lines()) + "\n"

    def to_json(self) -> str:
        """The same as JSON."""
        document = {"agree": not self.differences, **dataclasses.asdict(self)}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _lines(self) -> Iterator[str]:
        about = self.circumstances
        versions = [f"{name} {version}" for name, version in about.versions.items()]
        if about.server is not None:
            versions.append(f"the server {about.server}")
        yield f"# Answers compared with those of the {REFERENCE}\n"
        yield f"{self.verdict} {about.date}, {_escaped(', '.join(versions))}.\n"
        yield f"```sh\n{about.command}\n```"
        for part in self._parts():
            yield f"\n## {_escaped(part.title)}\n"
            yield _line(part.columns)
            yield "|---" * len(part.columns) + "|"
            yield from map(_line, part.rows)
            if part.more:
                yield f"\nand {part.more:,} more"

    def _parts(self) -> Iterator[_Part]:
        about = self.circumstances
        yield _Part(
            f"{self.images:,} images of {about.images_from}, version {about.model_version} of "
            f"{about.repository}, tolerance {about.tolerance:g}",
            _SUMMARY,
            [_summary(tally) for tally in self.engines],
        )
        for part in self._lists():
            if part.rows:
                yield part

    def _lists(self) -> Iterator[_Part]:
        for tally in self.engines:
            for what, found in (("differences", tally.differences), ("ties", tally.ties)):
                yield _Part(
                    f"{tally.engine}, {what}: {found.count:,}",
                    ("image", REFERENCE, tally.engine, "why"),
                    [dataclasses.astuple(finding) for finding in found.first],
                    found.count - len(found.first),
                )
        yield _Part(
            f"Refused by all: {self.refused.count:,}",
            ("image", "reason"),
            [dataclasses.astuple(each) for each in self.refused.first],
            self.refused.count - len(self.refused.first),
        )


@dataclass(frozen=True)
class _Part:
    """A table, of whose rows `more` are left out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: int = 0


def _summary(tally: Tally) -> tuple[str, ...]:
    return (
        tally.engine,
        f"{tally.images:,}",
        f"{tally.same_top_1:,}",
        f"{tally.same_experts:,}",
        f"{tally.max_probability_difference:.1e}",
        f"{tally.ties.count:,}",
        f"{tally.differences.count:,}",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is, also in a table."""
    return _MARKDOWN.sub(r"\\\1", text)
