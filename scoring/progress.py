"""How far a scoring is, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def scoring_progress(
    console: Console, done: int, total: int | None
) -> Iterator[Callable[[int, float | None], None]]:
    """A bar on a terminal, which is gone at the end; else a line every ten seconds.

    Shows images, images a second, mean experts, and the time left where the number of images is
    known.

    Args:
        console: where.
        done: images that were scored before.
        total: all images; None if that is not known.

    Yields:
        What shows that so many more are done, which took so many experts on average, if any did.
    """
    started = said = time.monotonic()
    terminal = console.is_terminal
    with images_bar(console, TextColumn("{task.fields[experts]}"), disable=not terminal) as bar:
        task = bar.add_task("scoring", total=total, completed=done, experts="")

        def show(rows: int, mean_experts: float | None) -> None:
            nonlocal said
            experts = "" if mean_experts is None else f"{mean_experts:.2f} experts"
            bar.update(task, completed=done + rows, experts=experts)
            now = time.monotonic()
            if not terminal and now - said >= _LINE_EVERY_S:
                said = now
                rate = rows / (now - started)
                console.print(_line(done + rows, total, rate, experts), soft_wrap=True)

        yield show


def _line(done: int, total: int | None, rate: float, experts: str) -> str:
    parts = [f"{done:,} images", f"{rate:,.0f} images/s", experts]
    if total is not None and rate:
        parts[0] = f"{done:,} of {total:,} images"
        parts.append(f"{(total - done) / rate:,.0f} s left")
    return ", ".join(part for part in parts if part)
