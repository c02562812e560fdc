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

from serving.tracing.terminal import say
from verify.agreement import EngineAgreement, Examples, RejectedImage
from verify.request import REFERENCE

_SUMMARY = (
    *("engine", "images", "same top-1", "same experts"),
    *("largest probability difference", "ties", "differences"),
)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")


@dataclass(frozen=True)
class Setup:
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
class VerificationReport:
    """What there is to tell, added up while images are compared.

    Attributes:
        circumstances: of this verification.
        engines: each against the reference.
        images: that were compared so far.
        refused: those that no engine answers.
    """

    circumstances: Setup
    engines: list[EngineAgreement]
    images: int = 0
    refused: Examples[RejectedImage] = field(default_factory=Examples)

    @property
    def differences(self) -> int:
        """Of all engines together."""
        return sum(agreement.differences.count for agreement in self.engines)

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.differences:
            return f"Differences from the {REFERENCE}: {self.differences:,}."
        return f"No difference from the {REFERENCE}."

    def show(self, console: Console) -> None:
        """Print all of it."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        summary, *lists = self._sections()
        for column in summary.columns:
            narrow = column.replace(" ", "\n")
            table.add_column(narrow, justify="left" if column == "engine" else "right")
        for row in summary.rows:
            table.add_row(*map(Text, row))  # Text, because brackets in a name are no markup
        say(console, summary.title)
        console.print()
        console.print(table)
        for section in lists:
            console.print()
            say(console, section.title)
            for image, *cells in section.rows:
                say(console, f"  {image}")
                for column, cell in zip(section.columns[1:], cells, strict=True):
                    say(console, f"    {column}: {cell}")
            if section.more:
                say(console, f"  and {section.more:,} more")
        console.print()
        say(console, self.verdict)

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
        for section in self._sections():
            yield f"\n## {_escaped(section.title)}\n"
            yield _line(section.columns)
            yield "|---" * len(section.columns) + "|"
            yield from map(_line, section.rows)
            if section.more:
                yield f"\nand {section.more:,} more"

    def _sections(self) -> Iterator[_Section]:
        about = self.circumstances
        yield _Section(
            f"{self.images:,} images of {about.images_from}, version {about.model_version} of "
            f"{about.repository}, tolerance {about.tolerance:g}",
            _SUMMARY,
            [_summary(agreement) for agreement in self.engines],
        )
        for section in self._lists():
            if section.rows:
                yield section

    def _lists(self) -> Iterator[_Section]:
        for agreement in self.engines:
            for what, found in (("differences", agreement.differences), ("ties", agreement.ties)):
                yield _Section(
                    f"{agreement.engine}, {what}: {found.count:,}",
                    ("image", REFERENCE, agreement.engine, "why"),
                    [dataclasses.astuple(finding) for finding in found.first],
                    found.count - len(found.first),
                )
        yield _Section(
            f"Refused by all: {self.refused.count:,}",
            ("image", "reason"),
            [dataclasses.astuple(each) for each in self.refused.first],
            self.refused.count - len(self.refused.first),
        )


@dataclass(frozen=True)
class _Section:
    """A table, of whose rows `more` are left out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: int = 0


def _summary(agreement: EngineAgreement) -> tuple[str, ...]:
    return (
        agreement.engine,
        f"{agreement.images:,}",
        f"{agreement.same_top_1:,}",
        f"{agreement.same_experts:,}",
        f"{agreement.max_probability_difference:.1e}",
        f"{agreement.ties.count:,}",
        f"{agreement.differences.count:,}",
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is, also in a table."""
    return _MARKDOWN.sub(r"\\\1", text)
