"""What a person sees of a run: lines on the console, curves in TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoint import Position, Stage
from training.loop import StepReport
from training.progress import ConsoleReporter


def report(stage: Stage, epoch: int, step: int, loss: float) -> StepReport:
    """Of a run of 2 epochs of 12 steps."""
    position = Position(stage, epoch, step)
    return StepReport(position, 12, 2, torch.tensor(loss), torch.tensor(0.5), 0.1)


def shown(folder: Path, reports: list[StepReport]) -> str:
    console = Console(file=io.StringIO(), width=200)
    with ConsoleReporter(folder, console) as reporter:
        for each in reports:
            reporter.step(each)
        reporter.saved(Position(Stage.ROUTERS, 1, 3))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def whole_epochs(stage: Stage) -> list[StepReport]:
    return [
        report(stage, epoch, step, 10.0 * epoch + step) for epoch in range(2) for step in range(12)
    ]


def test_each_epoch_leaves_a_line_with_its_own_means(tmp_path: Path) -> None:
    text = shown(tmp_path, whole_epochs(Stage.EXPERTS) + whole_epochs(Stage.ROUTERS))
    assert "experts: epoch 1/2  loss 5.500  accuracy 50.0%" in text
    assert "experts: epoch 2/2  loss 15.500  accuracy 50.0%" in text
    assert "routers: epoch 1/2  loss 5.500" in text
    assert "checkpoint saved (routers, epoch 2, step 3)" in text


@pytest.mark.parametrize("stop", [24, 17])
def test_tensorboard_has_every_step_also_of_a_run_that_was_stopped(
    tmp_path: Path, stop: int
) -> None:
    shown(tmp_path, whole_epochs(Stage.EXPERTS)[:stop])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(point.step, point.value) for point in events.Scalars("experts/loss")]
    expected = [(n + 1, 10.0 * (n // 12) + n % 12) for n in range(stop)]
    assert points == expected
    assert events.Scalars("experts/learning_rate")[0].value == pytest.approx(0.1)


def test_a_run_resumed_in_the_middle_goes_on_counting(tmp_path: Path) -> None:
    shown(tmp_path, whole_epochs(Stage.EXPERTS)[20:])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("experts/accuracy")] == [21, 22, 23, 24]
