"""`ride train` as a user runs it: a real process, real signals, one sentence for each mistake."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.checkout import ROOT
from tests.training.outcome import RideTrain, assert_refused
from training.checkpoint import (
    FILE_NAME,
    Position,
    Stage,
    load_checkpoint,
    load_finished,
    save_checkpoint,
)
from training.choices import DiversityForm, Precision
from training.config import TrainingConfig
from training.data import ImageSet, Split, read_split
from training.loop import new_checkpoint
from training.presets import preset

TIMEOUT_S = 120


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ride", "train", *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    """One thread, and lines that arrive when they are printed."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def interrupted(number: signal.Signals, *arguments: object) -> int:
    """Send a signal once training is under way; the exit status."""
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "checkpoint saved" in line:
                process.send_signal(number)
                break
        process.communicate(timeout=TIMEOUT_S)
        return process.returncode


@pytest.fixture
def begun(tiny: ImageSet, tmp_path: Path) -> Path:
    """A folder that holds a run at its first step."""
    save_checkpoint(new_checkpoint(preset("cifar10-lt"), tiny, {}), tmp_path)
    return tmp_path


def test_a_run_is_stopped_by_ctrl_c_and_resumed_to_its_end(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "first"
    status = interrupted(
        signal.SIGINT,
        *("--data", cifar10_folder, "--output", run, "--preset", "cifar10-lt"),
        *("--imbalance-factor", 4, "--epochs", 1, "--batch-size", 2, "--experts", 2),
        *("--diversity", "pairwise", "--seed", 7, "--precision", "fp32"),
        *("--device", "cpu", "--checkpoint-minutes", 0),
    )
    assert status == 130
    checkpoint = load_checkpoint(run)
    assert checkpoint.position.stage is Stage.EXPERTS
    assert checkpoint.position.step > 0
    assert sorted(file.name for file in run.iterdir()) == [FILE_NAME, "tensorboard"]
    assert checkpoint.class_counts == (8, 6, 5, 5, 4, 3, 3, 2, 2, 2)
    config = checkpoint.config
    assert (config.seed, config.precision) == (7, Precision.FP32)
    assert config.loss.diversity is DiversityForm.PAIRWISE
    assert (config.model.num_experts, config.optimiser.batch_size) == (2, 2)
    assert config.optimiser.epochs == 1
    assert config.data.imbalance_factor == 4

    again = ("--data", cifar10_folder, "--output", run, "--resume", "--device", "cpu")
    resumed = ride_train_here(*again)
    assert resumed.status == 0
    assert resumed.stderr == ""
    assert f"starting at {checkpoint.position}" in resumed.stdout
    assert "Finished." in resumed.stdout
    finished = load_finished(run)
    assert finished.config == config
    assert finished.provenance == checkpoint.provenance
    weights = finished.build_model().state_dict().values()
    assert all(torch.isfinite(tensor).all() for tensor in weights)


def test_resuming_a_finished_run_says_so(
    ride_train_here: RideTrain, tiny: ImageSet, tmp_path: Path
) -> None:
    """In one line, whatever the folder's name is made of."""
    run = tmp_path / "[red]" / ("long" * 30)
    run.mkdir(parents=True)
    checkpoint = new_checkpoint(preset("cifar10-lt"), tiny, {})
    checkpoint.position = Position(Stage.DONE)
    save_checkpoint(checkpoint, run)
    done = ride_train_here("--data", tmp_path, "--output", run, "--resume")
    assert (done.status, done.stdout) == (0, f"{run} is already finished.\n")


def test_a_folder_that_holds_a_run_is_refused(
    ride_train_here: RideTrain, begun: Path, cifar10_folder: Path
) -> None:
    before = (begun / FILE_NAME).read_bytes()
    done = ride_train_here("--data", cifar10_folder, "--output", begun, "--preset", "cifar10-lt")
    assert_refused(done, str(begun), "already holds a run", "--resume")
    assert (begun / FILE_NAME).read_bytes() == before


def test_without_a_run_there_is_nothing_to_resume(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    done = ride_train_here("--data", cifar10_folder, "--output", tmp_path, "--resume")
    assert_refused(done, str(tmp_path), "nothing to resume")


@pytest.mark.parametrize(
    "flags",
    [("--epochs", 3), ("--seed", 0), ("--precision", "bf16"), ("--preset", "cifar100-lt")],
    ids=str,
)
def test_a_resumed_run_keeps_its_settings(
    ride_train_here: RideTrain, begun: Path, flags: tuple[str, object]
) -> None:
    done = ride_train_here("--data", begun, "--output", begun, "--resume", *flags)
    assert_refused(done, "keeps its own settings", f"leave out {flags[0]}")


def test_an_unknown_preset_is_refused(ride_train_here: RideTrain, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = ride_train_here("--data", tmp_path, "--output", run, "--preset", "cifar")
    assert_refused(done, "'cifar'", "cifar10-lt, cifar100-lt")
    assert not run.exists()


def test_an_unknown_device_is_refused(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = ride_train_here("--data", cifar10_folder, "--output", run, "--device", "tpu9000")
    assert_refused(done, "'tpu9000'")
    assert not run.exists()


def test_a_missing_data_folder_is_refused(ride_train_here: RideTrain, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = ride_train_here("--data", tmp_path / "none", "--output", run)
    assert_refused(done, f"no data folder {tmp_path / 'none'}")
    assert not run.exists()


def test_an_output_that_is_a_file_is_refused(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").touch()
    done = ride_train_here(
        *("--data", cifar10_folder, "--output", tmp_path / "run", "--preset", "cifar10-lt"),
        *("--imbalance-factor", 4),
    )
    assert_refused(done, f"the folder {tmp_path / 'run'} cannot be made")


def test_a_damaged_checkpoint_is_refused(
    ride_train_here: RideTrain, begun: Path, cifar10_folder: Path
) -> None:
    (begun / FILE_NAME).write_bytes(b"not a checkpoint")
    done = ride_train_here("--data", cifar10_folder, "--output", begun, "--resume")
    assert_refused(done, str(begun / FILE_NAME), "damaged")


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL, which nothing can be done about: what the last checkpoint holds is enough."""
    flags = (
        *("--preset", "cifar10-lt", "--imbalance-factor", 4, "--epochs", 3, "--batch-size", 4),
        *("--experts", 2, "--precision", "fp32", "--device", "cpu"),
        *("--set", "optimiser.ema_decay=0.9"),
    )
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert ride_train_here("--data", cifar10_folder, "--output", undisturbed, *flags).status == 0
    often = ("--data", cifar10_folder, "--output", killed, "--checkpoint-minutes", 0)
    moments = random.Random(0)
    kill_in_step(moments.randint(1, 10), moments.uniform(0, 0.1), *often, *flags)
    kill_in_step(moments.randint(1, 10), moments.uniform(0, 0.1), *often, "--resume")
    assert load_checkpoint(killed).position.stage is not Stage.DONE
    assert ride_train_here("--data", cifar10_folder, "--output", killed, "--resume").status == 0
    expected, actual = load_finished(undisturbed).model, load_finished(killed).model
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def kill_in_step(step: int, seconds: float, *arguments: object) -> None:
    """Send SIGKILL so long after that many steps; nothing but whole checkpoints is left."""
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        saved = (line for line in process.stdout if "checkpoint saved" in line)
        next(itertools.islice(saved, step - 1, None), None)
        time.sleep(seconds)  # to some moment of the next steps: a checkpoint is written in each
        process.kill()


def test_data_that_changed_since_is_refused(
    ride_train_here: RideTrain, cifar10_folder: Path, tmp_path: Path
) -> None:
    """The same number of images of each class, but one pixel is another."""
    config = preset("cifar10-lt").with_settings(["data.imbalance_factor=4"])
    images = read_split(cifar10_folder, config.data, Split.TRAIN)
    assert isinstance(images, ImageSet)
    images.images[3, 4, 5, 0] ^= 1
    save_checkpoint(new_checkpoint(config, images, {}), tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    done = ride_train_here("--data", cifar10_folder, "--output", tmp_path, "--resume")
    assert done.status == 1
    assert "not what this run was started with" in done.stderr
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_all_settings_are_shown_without_data(ride_train_here: RideTrain) -> None:
    flags = ("--preset", "imagenet-lt", "--show-config", "--set", "loss.prior_strengths=[0,1,2]")
    done = ride_train_here(*flags)
    assert done.status == 0
    shown = TrainingConfig.from_dict(json.loads(done.stdout))
    assert shown == preset("imagenet-lt").with_settings(["loss.prior_strengths=[0,1,2]"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--set", "loss.colour=red"), ("--set loss.colour=red", "--show-config")),
        (("--set", "preset=mine"), ("no preset 'mine'", "cifar10-lt")),
        (("--set", "optimiser.epochs=many"), ("optimiser.epochs", "integer")),
        (("--set", "classifier.tau=0.5"), ("classifier.tau", "cosine_classifier=false")),
        (("--teacher", "nowhere"), ("--teacher has no effect",)),
        (("--set", "loss.distillation_weight=1"), ("--teacher",)),
        (("--weights", "nowhere.pth"), ("no file of weights nowhere.pth",)),
        (("--set", "model.backbone=resnet50", "--set", "model.cut=stage9"), ("stage9", "layer3")),
    ],
    ids=str,
)
def test_flags_without_sense_are_refused_before_anything_is_made(
    ride_train_here: RideTrain,
    cifar10_folder: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
    said: tuple[str, ...],
) -> None:
    run = tmp_path / "run"
    data = ("--data", cifar10_folder, "--output", run, "--preset", "cifar10-lt")
    done = ride_train_here(*data, "--imbalance-factor", 4, *flags)
    assert_refused(done, *said)
    assert not run.exists()


def test_training_needs_data_and_a_folder(ride_train_here: RideTrain) -> None:
    assert_refused(ride_train_here("--preset", "cifar10-lt"), "--data", "--output")
