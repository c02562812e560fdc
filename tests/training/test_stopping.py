"""Signals to all processes of `ride train` at once, as terminals and service managers send them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.running.waiting import WAIT_S, wait_until
from tests.training.data_folders import write_data
from training.checkpoint import FILE_NAME, load_checkpoint
from training.choices import Dataset

WORKERS = 2
SMALL = (
    *("--preset", "imagefolder", "--backbone", "resnet32", "--experts", 2, "--device", "cpu"),
    *("--epochs", 500, "--batch-size", 2, "--precision", "fp32", "--workers", WORKERS),
    *("--set", "data.image_size=8", "--set", "data.resize_shorter_side=8"),
    *("--set", "loss.reweighting_epoch=null", "--checkpoint-minutes", 0),
)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    write_data(tmp_path / "data", Dataset.IMAGE_FOLDER, 4)
    flags = (*SMALL, "--data", tmp_path / "data", "--output", tmp_path / "run")
    return [sys.executable, "-m", "ride", "train", *map(str, flags)]


@contextmanager
def training(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own, as a service or a terminal's command has one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), process.stderr and process.stderr.read()


def children(process: subprocess.Popen[str]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def assert_stopped_in_order(process: subprocess.Popen[str], run: Path) -> None:
    printed, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (130, "")
    assert f"Stopped. Go on with: ride train --resume --output {run}" in printed
    assert load_checkpoint(run).position.step + load_checkpoint(run).position.epoch > 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["starting at", "checkpoint saved"])
def test_a_signal_to_all_processes_ends_a_run_in_order(
    command: list[str], tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    """While worker processes start, and while they are at work."""
    with training(command) as process:
        read_until(process, moment)
        workers = children(process)
        os.killpg(process.pid, number)
        assert_stopped_in_order(process, tmp_path / "run")
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_that_is_killed_is_told_in_a_sentence(command: list[str], tmp_path: Path) -> None:
    """As the system does it that has no memory left; the last checkpoint goes on."""
    with training(command) as process:
        read_until(process, "checkpoint saved")
        assert len(children(process)) == WORKERS
        os.kill(children(process)[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 1
        assert errors.startswith("ride: a process that decodes images has ended")
        assert errors.count("\n") == 1
    assert (tmp_path / "run" / FILE_NAME).is_file()
    assert load_checkpoint(tmp_path / "run").position.epoch >= 0
