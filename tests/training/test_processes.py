"""One run in two processes: the same losses as in one, and one of them speaks and saves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoint import FILE_NAME, load_finished

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    *("--preset", "cifar10-lt", "--imbalance-factor", "4", "--experts", "2", "--epochs", "2"),
    *("--batch-size", "8", "--device", "cpu", "--precision", "fp32"),
)


def ride_train(processes: int, data: Path, run: Path, *flags: str) -> str:
    """What the command says, in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = (
        *("-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
    )
    command = [sys.executable, *(launcher if processes > 1 else ()), "-m", "ride", "train"]
    done = subprocess.run(
        [*command, *FLAGS, "--data", str(data), "--output", str(run), *flags],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(run: Path) -> list[float]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("experts/loss")]


@pytest.mark.slow
def test_two_processes_lose_as_much_as_one_that_takes_both_parts(
    cifar10_folder: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    ride_train(1, cifar10_folder, alone, "--set", "optimiser.accumulate=2")
    said = ride_train(2, cifar10_folder, shared)
    assert said.count("Finished.") == 1
    assert "in 2 processes" in said
    assert sorted(file.name for file in shared.iterdir()) == [FILE_NAME, "tensorboard"]
    assert len(losses(alone)) == 2 * 5  # 40 images in batches of 8
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)
    one, other = load_finished(alone).model, load_finished(shared).model
    name = "experts.1.stage3.4.conv2.weight"
    assert (one[name] - other[name]).abs().max() < 1e-3 * one[name].abs().max()
