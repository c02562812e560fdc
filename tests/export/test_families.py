"""Every kind of network can be exported, and quantised, and says (nearly) the same afterwards."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from export.graphs import Graph, split_model, write_graph
from export.quantize import to_fp16, to_int8
from tests.export.test_graphs import require_equal
from tests.short_networks import ONE_OF_EACH_KIND
from training.choices import Family
from training.config import ModelConfig
from training.model import RideModel

pytestmark = pytest.mark.usefixtures("short_networks")

SIZE = 64


@dataclass(frozen=True)
class Exported:
    """Backbone and expert of a family, their file, and images uint8 [8, SIZE, SIZE, 3]."""

    graph: Graph
    path: Path
    images: np.ndarray


@pytest.fixture(scope="module", params=ONE_OF_EACH_KIND[1:])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The first family, ResNet-32, is in all other tests."""
    family: Family = request.param
    config = ModelConfig(backbone=family, num_classes=5, num_experts=1)
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    [graph] = split_model(settled(config, images), SIZE)
    path = tmp_path_factory.mktemp(family) / "model.onnx"
    write_graph(graph, path)
    return Exported(graph, path, images)


def settled(config: ModelConfig, images: np.ndarray) -> RideModel:
    """A random model whose batch normalisation knows these images, so that no layer fades out."""
    torch.manual_seed(0)
    model = RideModel(config).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    return model.eval()


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    outputs: list[np.ndarray] = session(path).run(None, {"image": images})
    return outputs


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two tensors."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.slow
def test_every_kind_of_network_can_be_exported(exported: Exported) -> None:
    for batch in (1, 3):
        require_equal(exported.graph, session(exported.path), batch)


def test_every_kind_of_network_can_be_quantised(exported: Exported, tmp_path: Path) -> None:
    int8, fp16 = tmp_path / "int8.onnx", tmp_path / "fp16.onnx"
    for path in (int8, fp16):
        shutil.copy(exported.path, path)
    to_int8(int8, [{"image": exported.images}])
    to_fp16(fp16)
    expected = run(exported.path, exported.images)
    for path, least in ((int8, 0.85), (fp16, 0.9999)):
        for one, other in zip(expected, run(path, exported.images), strict=True):
            assert other.dtype == np.float32
            assert similarity(one, other) > least
        assert path.stat().st_size < 0.8 * exported.path.stat().st_size
