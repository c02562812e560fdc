"""Bad data, a bad disk, a bad checkpoint: `ride train` says what, where and what to do.

Always in one sentence, with exit status 1, and nothing that was learnt is lost.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.training.data_folders import encode, write_data, write_image, write_parquet
from tests.training.misfortunes import Trap, full_disk
from tests.training.outcome import Outcome, RideTrain, assert_one_sentence, assert_refused
from training.batches import seed_of, shuffled
from training.checkpoint import (
    FILE_NAME,
    Position,
    Stage,
    load_checkpoint,
    load_finished,
    save_checkpoint,
)
from training.choices import Dataset
from training.data import Split, read_split
from training.loop import new_checkpoint
from training.presets import preset

pytestmark = pytest.mark.usefixtures("short_networks")

EACH = 4
IMAGES = 4 * EACH
SETTINGS = (
    *("data.image_size=8", "data.resize_shorter_side=8", "data.holdout=0"),
    *("model.backbone=resnet32", "model.num_experts=1"),
    *("optimiser.epochs=2", "optimiser.batch_size=2", "optimiser.warmup_epochs=0"),
)
MACHINE = ("--device", "cpu", "--workers", 0)
LIST = "ImageNet_LT_train.txt"


def settings(*assignments: str) -> tuple[str, ...]:
    return tuple(word for assignment in assignments for word in ("--set", assignment))


class Training:
    """A data folder and a run's folder, and the command on both with a small network."""

    def __init__(self, ride_train: RideTrain, folder: Path) -> None:
        self.data, self.run = folder / "data", folder / "run"
        self.data.mkdir()
        self._ride_train = ride_train

    def start(self, dataset: Dataset, *flags: object) -> Outcome:
        chosen = ("--preset", str(dataset), *settings(*SETTINGS, "loss.reweighting_epoch=null"))
        return self._ride(*chosen, *flags)

    def resume(self, *flags: object) -> Outcome:
        return self._ride("--resume", *flags)

    def _ride(self, *flags: object) -> Outcome:
        folders = ("--data", self.data, "--output", self.run)
        return self._ride_train(*folders, *MACHINE, *flags)

    def begun(self) -> bytes:
        """Put a run at its first step into the folder; what its file holds."""
        config = preset("imagefolder").with_settings(
            [*SETTINGS, "model.num_classes=4", "model.router_top_logits=4"]
        )
        self.run.mkdir()
        images = read_split(self.data, config.data, Split.TRAIN)
        save_checkpoint(new_checkpoint(config, images, {}), self.run)
        return self.saved()

    def saved(self) -> bytes:
        return (self.run / FILE_NAME).read_bytes()

    def nothing_is_left(self) -> bool:
        return not self.run.exists()


@pytest.fixture
def training(ride_train_here: RideTrain, tmp_path: Path) -> Training:
    """Without data."""
    return Training(ride_train_here, tmp_path)


@pytest.fixture
def folders(training: Training) -> Training:
    """With four images in each of four folders."""
    write_data(training.data, Dataset.IMAGE_FOLDER, EACH)
    return training


def last_of_first_epoch(training: Training) -> Path:
    """The image that the first epoch shows last."""
    config = preset("imagefolder").with_settings(SETTINGS)
    images = read_split(training.data, config.data, Split.TRAIN)
    row = int(shuffled(images, seed_of(0, 1, 0, 0))[-1])
    return training.data / "train" / str(row // EACH) / f"{row % EACH}.png"


def test_an_unreadable_image_is_named_and_can_be_skipped(folders: Training) -> None:
    damaged = last_of_first_epoch(folders)
    damaged.write_bytes(encode(0)[:40])
    stopped = folders.start(Dataset.IMAGE_FOLDER)
    assert_one_sentence(
        stopped, f"{damaged}: the PNG image is damaged or cut short", "--unreadable skip"
    )
    position = load_checkpoint(folders.run).position
    assert position == Position(Stage.EXPERTS, 0, IMAGES // 2 - 1), "whole steps are kept"

    skipped = folders.resume("--unreadable", "skip")
    assert (skipped.status, skipped.stderr) == (0, "")
    assert f"1 image could not be read: {damaged}" in skipped.stdout
    assert load_finished(folders.run).class_counts == (EACH,) * 4


def test_images_that_are_skipped_are_counted(folders: Training) -> None:
    for label in "012":
        (folders.data / "train" / label / "0.png").write_bytes(b"")
    larger = settings("optimiser.batch_size=8")
    done = folders.start(Dataset.IMAGE_FOLDER, "--unreadable", "skip", *larger)
    assert done.status == 0, done.stderr
    assert "3 images could not be read, the first of them: " in done.stdout


def test_where_nothing_can_be_read_that_is_said(folders: Training) -> None:
    for image in folders.data.rglob("*.png"):
        image.write_bytes(b"no image")
    done = folders.start(Dataset.IMAGE_FOLDER, "--unreadable", "skip")
    assert_one_sentence(done, str(folders.data), ".png: the bytes are text", "Nor can any other")
    assert not (folders.run / FILE_NAME).exists()


def test_a_class_without_images_is_named(folders: Training) -> None:
    (folders.data / "train" / "empty").mkdir()
    done = folders.start(Dataset.IMAGE_FOLDER)
    assert_refused(done, str(folders.data), "no training images for 1 of 5 classes: empty")
    assert folders.nothing_is_left()


def test_data_that_changed_is_refused(folders: Training) -> None:
    before = folders.begun()
    write_image(folders.data / "train" / "0" / "another.png")
    done = folders.resume()
    assert done.status == 1
    assert done.stderr.startswith("ride: the training data is not what this run was started with")
    assert str(folders.run) in done.stderr
    assert folders.saved() == before


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(folders: Training) -> None:
    done = folders.start(
        Dataset.IMAGE_FOLDER,
        *("--set", "optimiser.learning_rate=1e30", "--checkpoint-minutes", 0),
    )
    kept = folders.run / FILE_NAME
    assert_one_sentence(done, "diverged", "at experts, epoch 1, step", f"{kept} is kept")
    assert "lower learning rate" in done.stderr
    weights = load_checkpoint(folders.run).build_model().parameters()
    assert all(torch.isfinite(weight).all() for weight in weights)


@pytest.mark.parametrize("limit", [10, 100_000], ids=["full", "nearly full"])
def test_a_full_disk_loses_nothing(folders: Training, limit: int) -> None:
    before = folders.begun()
    with full_disk(limit):
        done = folders.resume("--checkpoint-minutes", 0)
    assert_one_sentence(done, f"{folders.run / FILE_NAME} could not be written: File too large")
    assert ("training goes on without curves" in done.stdout) == (limit == 10)
    assert folders.saved() == before
    assert folders.resume().status == 0
    load_finished(folders.run)


@pytest.mark.parametrize(
    "flag",
    [
        ("--preset", "cifar10-lt"),
        ("--epochs", 3),
        ("--experts", 2),
        ("--imbalance-factor", 10),
        ("--batch-size", 4),
        ("--backbone", "resnet10"),
        ("--base-loss", "focal"),
        ("--diversity", "mean"),
        ("--augmentation", "none"),
        ("--seed", 1),
        ("--precision", "fp32"),
        ("--set", "optimiser.momentum=0.5"),
        ("--weights", "weights.pth"),
        ("--show-config",),
    ],
    ids=lambda flag: flag[0],
)
def test_a_resumed_run_takes_no_settings(folders: Training, flag: tuple[object, ...]) -> None:
    before = folders.begun()
    assert_refused(folders.resume(*flag), f"keeps its own settings: leave out {flag[0]}\n")
    assert folders.saved() == before


def test_all_settings_that_a_resumed_run_does_not_take_are_named(folders: Training) -> None:
    folders.begun()
    done = folders.resume("--seed", 1, "--experts", 2)
    assert_refused(done, "leave out --experts, --seed")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/etc/passwd 0", "must stay below the data folder"),
        ("a/../../secret.png 0", "must stay below the data folder"),
        ("0/1.png", "not a path, a space and a label"),
        ("0/1.png one", "not a path, a space and a label"),
        ("0/1.png 1.0", "not a path, a space and a label"),
        ("0/\0.png 0", "not a path, a space and a label"),
        ("0/1.png" * 200_000, "not a path, a space and a label"),
        ("0/1.png" * 200_000 + " 0", "1400000 characters"),
        ("0/1.png 99999999", "only 17 images"),
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_list_is_refused(training: Training, line: str, said: str) -> None:
    write_data(training.data, Dataset.IMAGENET_LT, EACH)
    with (training.data / LIST).open("a") as file:
        file.write(f"\n{line}\n")
    done = training.start(Dataset.IMAGENET_LT)
    assert_refused(done, str(training.data / LIST), said)
    assert len(done.stderr) < 1000
    assert training.nothing_is_left()


def test_a_listed_image_that_is_missing_is_named(training: Training) -> None:
    write_data(training.data, Dataset.IMAGENET_LT, EACH)
    (training.data / "2" / "1.png").unlink()
    done = training.start(Dataset.IMAGENET_LT)
    assert_one_sentence(done, str(training.data / "2" / "1.png"), "missing", "--unreadable skip")


def test_labels_beyond_the_list_of_classes_are_refused(training: Training) -> None:
    write_data(training.data, Dataset.PARQUET, EACH)
    (training.data / "classes.txt").write_text("cat\ndog\nowl\n")
    done = training.start(Dataset.PARQUET)
    said = ("'label'", str(training.data / "train.parquet"), "labels from 0 to 3", "from 0 to 2")
    assert_refused(done, *said)
    assert training.nothing_is_left()


def test_rows_without_an_image_are_named_and_can_be_skipped(training: Training) -> None:
    images = [encode(row) for row in range(IMAGES)]
    table = {"image": pa.array([None, *images[1:]], pa.binary()), "label": [0, 1, 2, 3] * EACH}
    pq.write_table(pa.table(table), training.data / "train.parquet")
    stopped = training.start(Dataset.PARQUET)
    assert_one_sentence(stopped, "train.parquet, row 0: the image is empty", "--unreadable skip")
    assert "1 image could not be read" in training.resume("--unreadable", "skip").stdout


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_parquet_file_is_refused(training: Training, share: float) -> None:
    path = write_parquet(training.data / "train.parquet", [0, 1, 2, 3])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert_refused(training.start(Dataset.PARQUET), f"{path} is not a readable Parquet file")
    assert training.nothing_is_left()


def test_a_parquet_file_whose_pages_are_damaged_is_refused(training: Training) -> None:
    path = write_parquet(training.data / "train.parquet", [0, 1, 2, 3])
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 100 + whole[104:])
    assert_refused(training.start(Dataset.PARQUET), f"{path} is not a readable Parquet file")


def test_a_parquet_file_of_something_else_is_refused(training: Training) -> None:
    path = training.data / "train.parquet"
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), path)
    done = training.start(Dataset.PARQUET)
    assert_refused(
        done, f"{path} has no column of encoded images", "it has 'text' (string), 'label' (int64)"
    )


def test_code_in_a_checkpoint_is_refused_and_not_run(folders: Training, tmp_path: Path) -> None:
    folders.begun()
    torch.save(
        {"format": "ride-checkpoint-1", "model": Trap(tmp_path / "ran")}, folders.run / FILE_NAME
    )
    done = folders.resume()
    assert_refused(done, str(folders.run / FILE_NAME), "so it was not opened")
    assert not (tmp_path / "ran").exists()


def test_a_last_batch_of_one_image_is_left_out(folders: Training) -> None:
    """Images of 32 pixels end as single ones, where one image has no variance."""
    write_image(folders.data / "train" / "0" / "17th.png")
    done = folders.start(
        Dataset.IMAGE_FOLDER,
        *settings("data.image_size=32", "data.resize_shorter_side=32"),
        *settings("model.backbone=resnet10", "optimiser.batch_size=8", "optimiser.epochs=1"),
    )
    assert done.status == 0, done.stderr
    load_finished(folders.run)
