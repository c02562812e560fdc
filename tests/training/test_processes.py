"""One run in two processes: the same losses as in one, and one of them speaks and saves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.checkout import ROOT
from tests.training.outcome import RideTrain
from training.checkpoint import FILE_NAME, load_finished

FLAGS = (
    *("--preset", "cifar10-lt", "--imbalance-factor", "4", "--experts", "2", "--epochs", "2"),
    *("--batch-size", "8", "--device", "cpu", "--precision", "fp32"),
)


def train_in_two_processes(data: Path, run: Path) -> str:
    """What the command says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = (
        *("-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
    )
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "ride", "train", *FLAGS, *folders(data, run)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def folders(data: Path, run: Path) -> tuple[str, ...]:
    return ("--data", str(data), "--output", str(run))


def losses(run: Path) -> list[float]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("experts/loss")]


@pytest.mark.slow
def test_two_processes_lose_as_much_as_one_that_takes_both_parts(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    in_two_parts = ("--set", "optimiser.accumulate=2")
    done = ride_train_here(*FLAGS, *folders(cifar10_folder, alone), *in_two_parts)
    assert done.status == 0, done.stderr
    said = train_in_two_processes(cifar10_folder, shared)
    assert said.count("Finished.") == 1
    assert "in 2 processes" in said
    assert sorted(file.name for file in shared.iterdir()) == [FILE_NAME, "tensorboard"]
    assert len(losses(alone)) == 2 * 5  # 40 images in batches of 8
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)
    one, other = load_finished(alone).model, load_finished(shared).model
    name = "experts.1.stage3.4.conv2.weight"
    assert (one[name] - other[name]).abs().max() < 1e-3 * one[name].abs().max()
