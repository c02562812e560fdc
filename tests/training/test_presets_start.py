"""Every preset trains on data of its format: an epoch of two steps, on short networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.data_folders import CIFAR, CLASSES, write_data
from tests.training.outcome import Outcome, RideTrain, assert_one_sentence
from training.checkpoint import FILE_NAME, load_finished
from training.config import TrainingConfig
from training.presets import PRESETS

pytestmark = pytest.mark.usefixtures("short_networks")

EACH = 2


def small(config: TrainingConfig) -> tuple[object, ...]:
    """Flags for two steps of each stage, on images as small as the network takes."""
    factor: tuple[object, ...]
    if config.data.dataset in CIFAR:
        images = CIFAR[config.data.dataset] + 1  # the first class has two, the others one
        size, batch, factor = 16, images // 2 + 1, ("--imbalance-factor", EACH)
    else:
        size, batch, factor = 32, 4, ()
    settings = [f"data.image_size={size}", f"data.resize_shorter_side={size}", "router.epochs=1"]
    if config.optimiser.small_epochs:
        settings.append(f"optimiser.small_size={size // 2}")
    assignments = (word for setting in settings for word in ("--set", setting))
    return (*factor, "--batch-size", batch, "--epochs", 1, *assignments)


@pytest.fixture
def train(ride_train_here: RideTrain, tmp_path: Path) -> Callable[..., Outcome]:
    """Trains a preset on data of its format."""

    def run(preset: str, output: Path, *flags: object) -> Outcome:
        data = tmp_path / PRESETS[preset].data.dataset
        if not data.exists():
            data.mkdir()
            write_data(data, PRESETS[preset].data.dataset, EACH)
        return ride_train_here(
            *("--preset", preset, "--data", data, "--output", output, *small(PRESETS[preset])),
            *("--device", "cpu", "--precision", "fp32", "--workers", 0, *flags),
        )

    return run


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_to_its_end(
    name: str, train: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    imitated: tuple[object, ...] = ()
    if PRESETS[name].loss.distillation_weight:
        imitated = ("--teacher", tmp_path / "teacher")
        assert train("cifar100-lt-teacher", tmp_path / "teacher").status == 0
    done = train(name, run, *imitated)
    assert done.status == 0, done.stderr
    assert "Finished." in done.stdout
    finished = load_finished(run)
    assert finished.config.preset == name
    assert finished.config.model.backbone == PRESETS[name].model.backbone
    weights = finished.build_model().state_dict().values()
    assert all(torch.isfinite(tensor).all() for tensor in weights)


def test_a_teacher_knows_the_classes_of_the_data(
    train: Callable[..., Outcome], tmp_path: Path
) -> None:
    teacher, weight = tmp_path / "teacher", ("--set", "loss.distillation_weight=0.5")
    assert train("imagefolder", teacher).status == 0
    imitated = ("--teacher", teacher / FILE_NAME, *weight)
    done = train("imagefolder", tmp_path / "pupil", *imitated)
    assert done.status == 0, done.stderr
    assert load_finished(tmp_path / "pupil").config.model.num_classes == CLASSES
    refused = train("cifar10-lt", tmp_path / "other", *imitated)
    assert_one_sentence(refused, f"knows {CLASSES} classes", "the data has 10")
    assert not (tmp_path / "other").exists()
