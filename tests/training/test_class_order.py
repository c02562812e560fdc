"""A run whose classes stand in another order than the data's: said by every command, not learnt."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.data_folders import write_image
from training.checkpoint import load_finished, save_checkpoint
from training.data import Split, read_split
from training.loop import new_checkpoint

Ride = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("short_networks")

OLD = ("1", "10", "2")
SETTINGS = (
    *("data.image_size=8", "data.resize_shorter_side=8", "data.holdout=0.5"),
    *("model.backbone=resnet32", "model.num_experts=2", "loss.reweighting_epoch=null"),
    *("optimiser.epochs=1", "optimiser.batch_size=2", "optimiser.warmup_epochs=0"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for shade, name in enumerate(OLD):
        for image in range(4):
            write_image(folder / "train" / name / f"{image}.png", 60 * shade + image)
        write_image(folder / "test" / name / "0.png", 60 * shade)
    return folder


def test_every_command_says_so(call_ride: Ride, data: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    settings = [word for each in SETTINGS for word in ("--set", each)]
    machine = ("--device", "cpu", "--workers", 0)
    train = ("train", "--preset", "imagefolder", "--data", data, *machine, *settings)
    (data / "classes.txt").write_text("\n".join(OLD))
    (data / "train" / OLD[0] / "a.gif").touch()
    trained = call_ride(*train, "--output", run)
    assert trained.returncode == 0
    assert "Images: the folder train; left out: .gif 1\n" in trained.stdout
    checkpoint = load_finished(run)
    assert checkpoint.class_names == OLD
    images = read_split(data, checkpoint.config.data, Split.TRAIN)
    (tmp_path / "begun").mkdir()
    save_checkpoint(new_checkpoint(checkpoint.config, images, {}), tmp_path / "begun")

    (data / "classes.txt").rename(data / "elsewhere.txt")
    told = "has the classes in another order than the run: 2 is class 1 there, and class 2 of the"
    for command in (
        ("train", "--resume", "--output", tmp_path / "begun", "--data", data, *machine),
        ("evaluate", run, "--data", data, *machine),
        ("route", run, "--data", data, "--mean-experts", 1.5, "--workers", 0),
        ("export", run, tmp_path / "repository", "--data", data),
        (*train, "--output", other, "--teacher", run, "--set", "loss.distillation_weight=1"),
    ):
        refused = call_ride(*command)
        assert refused.returncode == 1, command
        assert told in refused.stderr, command
        assert refused.stderr.startswith("ride: ")
        assert refused.stderr.count("\n") == 1
    assert not other.exists()

    (data / "elsewhere.txt").rename(data / "classes.txt")
    assert call_ride("evaluate", run, "--data", data, *machine).returncode == 0
