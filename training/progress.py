"""Shows a training run: a progress bar, a line per epoch, TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from serving.tracing.terminal import say
from training.checkpoint import Position, Stage
from training.curve_files import CurveFile
from training.loop import StepReport

_LOG_EVERY_STEPS = 10


class SilentReporter:
    """For the processes of a run that leave speaking to the first one."""

    def step(self, report: StepReport) -> None:
        """Say nothing."""

    def saved(self, position: Position) -> None:
        """Say nothing."""


class ConsoleReporter:
    """Reports to a terminal (or a log file) and to TensorBoard event files in the run's folder.

    Loss and accuracy are means over the current epoch; they are read back from the device every
    ten steps only, so that an accelerator does not wait for the terminal.
    """

    def __init__(self, directory: Path, console: Console) -> None:
        self._console = console
        self._directory = directory / "tensorboard"
        self._curves: CurveFile | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            speed_estimate_period=300,
        )
        self._task: TaskID | None = None
        self._stage: Stage | None = None
        self._pending: list[StepReport] = []
        self._losses: list[float] = []
        self._accuracies: list[float] = []

    def __enter__(self) -> Self:
        self._progress.start()
        with self._curves_if_possible():
            self._curves = CurveFile(self._directory)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pending and error is None:
            self._flush()
        self._progress.stop()

    def step(self, report: StepReport) -> None:
        """Move the bar; at the end of an epoch leave a line behind."""
        if report.position.stage is not self._stage:
            self._start_stage(report)
        self._pending.append(report)
        last = report.position.step + 1 == report.steps_per_epoch
        if last or len(self._pending) >= _LOG_EVERY_STEPS:
            self._flush()
        if last:
            self._end_epoch(report)

    def saved(self, position: Position) -> None:
        """Tell when a checkpoint was written."""
        self._console.print(f"[dim]checkpoint saved ({position})[/dim]")

    def _start_stage(self, report: StepReport) -> None:
        self._stage = report.position.stage
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(
            str(self._stage),
            total=report.epochs * report.steps_per_epoch,
            completed=_steps_done(report) - 1,
            state="",
        )

    def _flush(self) -> None:
        assert self._task is not None
        for report in self._pending:
            loss, accuracy = float(report.loss), float(report.accuracy)
            self._losses.append(loss)
            self._accuracies.append(accuracy)
            step = _steps_done(report)
            prefix = str(report.position.stage)
            self._draw(f"{prefix}/loss", loss, step)
            self._draw(f"{prefix}/accuracy", accuracy, step)
            self._draw(f"{prefix}/learning_rate", report.learning_rate, step)
        last = self._pending[-1]
        self._pending = []
        self._progress.update(self._task, completed=_steps_done(last), state=self._state(last))

    def _draw(self, name: str, value: float, step: int) -> None:
        if self._curves is not None:
            with self._curves_if_possible():
                self._curves.add(name, value, step)

    @contextmanager
    def _curves_if_possible(self) -> Iterator[None]:
        """A full disk costs the curves and not the run, whose checkpoint may have room again."""
        try:
            yield
        except OSError as error:
            self._curves = None
            what = f"{self._directory} could not be written: {error.strerror}"
            say(self._console, f"{what}; training goes on without curves")

    def _state(self, report: StepReport) -> str:
        loss = sum(self._losses) / len(self._losses)
        accuracy = sum(self._accuracies) / len(self._accuracies)
        epoch = f"epoch {report.position.epoch + 1}/{report.epochs}"
        return f"{epoch}  loss {loss:.3f}  accuracy {accuracy:.1%}"

    def _end_epoch(self, report: StepReport) -> None:
        self._console.print(f"{report.position.stage}: {self._state(report)}")
        self._losses, self._accuracies = [], []


def _steps_done(report: StepReport) -> int:
    return report.position.epoch * report.steps_per_epoch + report.position.step + 1
