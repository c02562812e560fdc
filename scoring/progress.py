"""How far a scoring is, on a terminal or in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_WINDOW_S = 30
_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")


def images_bar(console: Console, *columns: ProgressColumn, disable: bool = False) -> Progress:
    """A bar of images, and how many a second, that is gone at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        *columns,
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        speed_estimate_period=_WINDOW_S,
        disable=disable,
    )


class ScoringProgress:
    """A bar on a terminal, which is gone at the end; else a line every ten seconds.

    Shows images, images a second, mean experts, and the time left where the number of images is
    known. Use as a context manager.
    """

    def __init__(self, console: Console, done: int, total: int | None) -> None:
        self._console = console
        self._done_before = done
        self._total = total
        self._started = self._said = time.monotonic()
        self._bar = images_bar(
            console, TextColumn("{task.fields[experts]}"), disable=not console.is_terminal
        )
        self._task = self._bar.add_task("scoring", total=total, completed=done, experts="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, rows: int, mean_experts: float | None) -> None:
        """Show that so many more rows are done than when it began."""
        experts = "" if mean_experts is None else f"{mean_experts:.2f} experts"
        self._bar.update(self._task, completed=self._done_before + rows, experts=experts)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _LINE_EVERY_S:
            self._said = now
            self._console.print(self._line(rows, experts, now - self._started), soft_wrap=True)

    def _line(self, rows: int, experts: str, seconds: float) -> str:
        done, rate = self._done_before + rows, rows / seconds
        parts = [f"{done:,} images", f"{rate:,.0f} images/s", experts]
        if self._total is not None and rate:
            parts[0] = f"{done:,} of {self._total:,} images"
            parts.append(f"{(self._total - done) / rate:,.0f} s left")
        return ", ".join(part for part in parts if part)
