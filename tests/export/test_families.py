"""Every kind of network can be quantised, and says nearly the same afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from export.graphs import split_model, write_graph
from export.quantize import to_fp16, to_int8
from tests.short_networks import ONE_OF_EACH_KIND, shorten
from training.config import Family, ModelConfig
from training.model import RideModel

SIZE = 64


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, inputs)
    return outputs


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two tensors."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


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


@pytest.mark.slow
@pytest.mark.parametrize("family", ONE_OF_EACH_KIND[1:])
def test_every_kind_of_network_can_be_quantised(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    config = ModelConfig(backbone=family, num_classes=5, num_experts=1)
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    inputs = {"image": images}
    [graph] = split_model(settled(config, images), SIZE)
    whole, int8, fp16 = (tmp_path / f"{kind}.onnx" for kind in ("fp32", "int8", "fp16"))
    write_graph(graph, whole)
    expected = run(whole, inputs)
    for path in (int8, fp16):
        shutil.copy(whole, path)
    to_int8(int8, [inputs])
    to_fp16(fp16)
    for path, least in ((int8, 0.85), (fp16, 0.9999)):
        for one, other in zip(expected, run(path, inputs), strict=True):
            assert other.dtype == np.float32
            assert similarity(one, other) > least
        assert path.stat().st_size < 0.8 * whole.stat().st_size
