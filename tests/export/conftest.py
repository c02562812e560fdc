"""A finished run with random weights, and the repository that it was exported to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from export.session import export_session
from training.checkpoint import Checkpoint, Position, Stage, save_checkpoint
from training.config import DataConfig, Dataset, ModelConfig
from training.data import Split, read_split
from training.loop import new_checkpoint
from training.presets import preset

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="session")
def finished(cifar10_folder: Path) -> Checkpoint:
    """Two experts that have learnt nothing yet, and say so as if they were done."""
    config = replace(
        preset("cifar10-lt"),
        data=DataConfig(dataset=Dataset.CIFAR10, imbalance_factor=None),
        model=ModelConfig(num_classes=10, num_experts=2, router_top_logits=10),
    )
    data = read_split(cifar10_folder, config.data, Split.TRAIN)
    checkpoint = new_checkpoint(config, data, {"commit": "none"})
    checkpoint.position = Position(Stage.DONE)
    return checkpoint


@pytest.fixture(scope="session")
def run(finished: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(finished, folder)
    return folder


@pytest.fixture(scope="session")
def repository(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, exported once; copy it before changing anything in it."""
    target = tmp_path_factory.mktemp("exported") / "model_repository"
    export_session(run, target, data=None, console=CONSOLE)
    return target
