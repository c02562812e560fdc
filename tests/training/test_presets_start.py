"""Every preset trains on data of its format: an epoch of two steps, on short networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.data_folders import CIFAR, write_data
from tests.training.outcome import Outcome, RideTrain
from training.checkpoint import load_finished
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


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_to_its_end(name: str, ride_train_here: RideTrain, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    write_data(data, PRESETS[name].data.dataset, EACH)

    def train(preset: str, output: Path, *flags: object) -> Outcome:
        return ride_train_here(
            *("--preset", preset, "--data", data, "--output", output, *small(PRESETS[preset])),
            *("--device", "cpu", "--precision", "fp32", "--workers", 0, *flags),
        )

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
