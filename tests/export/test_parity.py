"""Parity notices a model that differs, in its logits or only in its routing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.errors import ExportError
from export.parity import check_parity, random_images
from serving.engine.graphs import Engine, load_engine
from training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


def test_the_exported_model_is_at_parity(finished: Checkpoint, engine: Engine) -> None:
    parity = check_parity(finished.build_model(), engine, random_images(engine))
    assert parity.images == 256
    assert 0 < parity.max_logit_difference < 1e-4


def test_other_weights_are_noticed(finished: Checkpoint, engine: Engine) -> None:
    model = finished.build_model()
    weight = model.get_parameter("experts.1.classifier.weight")
    with torch.no_grad():
        weight[3] += 1e-3
    with pytest.raises(ExportError, match="logits differ from torch's by"):
        check_parity(model, engine, random_images(engine))


def test_another_router_is_noticed(finished: Checkpoint, engine: Engine) -> None:
    model = finished.build_model()
    with torch.no_grad():  # it wants the opposite
        model.get_parameter("routers.0.output.weight").neg_()
        model.get_parameter("routers.0.output.bias").neg_()
    with pytest.raises(ExportError, match="256 of 256 images take other experts"):
        check_parity(model, engine, random_images(engine))


def test_random_images_are_of_every_scale_and_repeatable(engine: Engine) -> None:
    images = random_images(engine)
    assert images.shape == (256, 32, 32, 3)
    assert images.dtype == np.uint8
    neighbours = np.abs(np.diff(images.astype(int), axis=2)).mean(axis=(1, 2, 3))
    assert neighbours.min() < 20
    assert neighbours.max() > 60
    np.testing.assert_array_equal(images, random_images(engine))
