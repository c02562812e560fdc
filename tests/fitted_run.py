"""A run that knows its data set without having been trained: fixtures of all tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.short_networks import shortened
from training.augmentation import to_unit_range
from training.checkpoint import Checkpoint, Position, Stage, save_checkpoint
from training.choices import Dataset
from training.config import DataConfig, ModelConfig
from training.data import ImageSet, Split, read_split
from training.loop import new_checkpoint
from training.presets import preset

DATA = DataConfig(dataset=Dataset.CIFAR10, imbalance_factor=4)
_SHRINKAGE = 1e-2


def fitted_run(data: Path, num_experts: int = 2) -> Checkpoint:
    """Random experts with classifiers that were fitted to the test images' embeddings."""
    config = replace(
        preset("cifar10-lt"),
        data=DATA,
        model=ModelConfig(
            num_classes=10,
            num_experts=num_experts,
            cosine_classifier=False,
            router_top_logits=10,
        ),
    )
    train = read_split(data, DATA, Split.TRAIN)
    checkpoint = new_checkpoint(config, train, {"commit": "none"})
    checkpoint.position = Position(Stage.DONE)
    model = checkpoint.build_model()
    test = read_split(data, DATA, Split.TEST)
    assert isinstance(test, ImageSet)
    with torch.no_grad():
        features = model.backbone(to_unit_range(test.images))
        for expert in model.experts:
            _fit(expert, features, test.labels)
    checkpoint.model = model.state_dict()
    return checkpoint


def _fit(expert: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Least squares from centred embeddings to ten times the one-hot label."""
    _, embedding = expert(features)
    mean = embedding.mean(dim=0)
    inner = (embedding - mean).double()
    wanted = 10 * nn.functional.one_hot(labels, 10).double()
    scale = inner.pow(2).mean()
    weight = torch.linalg.solve(
        inner.T @ inner / len(inner) + _SHRINKAGE * scale * torch.eye(inner.shape[1]),
        inner.T @ wanted / len(inner),
    )
    *_, layer = (each for each in expert.modules() if isinstance(each, nn.Linear))
    layer.weight.copy_(weight.T)
    layer.bias.copy_(-(mean.double() @ weight).float())


@pytest.fixture(scope="session")
def finished(cifar10_folder: Path) -> Checkpoint:
    """Two experts that are right about nearly every test image."""
    with shortened():
        return fitted_run(cifar10_folder)


@pytest.fixture(scope="session")
def run(finished: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(finished, folder)
    return folder
