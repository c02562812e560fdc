"""Every graph computes what its torch module computes, at every batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from export.errors import ExportError
from export.graphs import Graph, Scoring, split_model, write_graph
from serving.dataplane.tensors import Datatype, TensorSpec
from serving.engine.graphs import Engine, load_engine
from serving.model.repository import graph_models
from tests.checkout import ROOT
from training.checkpoint import Checkpoint
from training.choices import RouterKind
from training.config import ModelConfig
from training.model import RideModel

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture(scope="module")
def graphs(finished: Checkpoint) -> list[Graph]:
    return split_model(finished.build_model(), 32)


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


def random_input(spec: TensorSpec, batch: int) -> np.ndarray:
    generator = np.random.default_rng(batch)
    if spec.datatype is Datatype.UINT8:
        return generator.integers(0, 256, (batch, *spec.shape[1:]), dtype=np.uint8)
    return generator.standard_normal((batch, *spec.shape[1:]), dtype=np.float32)


def test_a_model_is_cut_into_the_graphs_of_a_repository(graphs: list[Graph]) -> None:
    assert [graph.name for graph in graphs] == graph_models(num_experts=2)
    assert [spec.shape[1:] for graph in graphs for spec in graph.outputs] == [
        *((16, 32, 32), (10,), (48,), ()),
        *((10,), (48,)),
    ]


def test_graphs_do_not_tell_where_they_were_made(repository: Path) -> None:
    here = str(ROOT).encode()
    for path in repository.glob("*/1/model.onnx"):
        content = path.read_bytes()
        assert here not in content
        assert b"stack_trace" not in content
        assert b"site-packages" not in content


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
def test_graphs_equal_their_modules(graphs: list[Graph], engine: Engine, batch: int) -> None:
    for graph in graphs:
        require_equal(graph, engine.sessions[graph.name], batch)


@pytest.mark.parametrize("kind", RouterKind)
def test_every_router_can_be_exported(kind: RouterKind, tmp_path: Path) -> None:
    """With both inputs, whether it looks at them or not; the second is of no simpler kind."""
    torch.manual_seed(0)
    config = ModelConfig(num_classes=10, num_experts=3, router_kind=kind)
    model = RideModel(config).eval()
    _, size = model.experts[0](model.backbone(torch.zeros(1, 3, 8, 8)))[1].shape
    examples = (torch.zeros(2, size), torch.zeros(2, 10))
    fp32 = Datatype.FP32
    inputs = (TensorSpec("embedding", fp32, (-1, size)), TensorSpec("sum", fp32, (-1, 10)))
    _, router = model.routers
    module = Scoring(router, 2, torch.arange(10.0)).eval()
    graph = Graph("router_2", module, examples, inputs, (TensorSpec("score", fp32, (-1,)),))
    session = exported(graph, tmp_path)
    assert [node.name for node in session.get_inputs()] == ["embedding", "sum"]
    for batch in (1, 2, 7):
        require_equal(graph, session, batch)


def test_a_router_scores_the_corrected_mean_of_all_experts_so_far(finished: Checkpoint) -> None:
    config = replace(finished.config.model, num_experts=3)
    torch.manual_seed(0)
    model = RideModel(config).eval()
    corrections = torch.randn(3, 10)
    image = torch.from_numpy(random_input(TensorSpec("image", Datatype.UINT8, (-1, 8, 8, 3)), 4))
    first, second, _ = split_model(model, 8, corrections.tolist())
    with torch.no_grad():
        features, logits, embedding, score = first.module(image)
        expected = model.routers[0](embedding, logits + corrections[0])
        torch.testing.assert_close(score, expected)
        own, embedding, score = second.module(features, logits)
        expected = model.routers[1](embedding, (logits + own) / 2 + corrections[1])
        torch.testing.assert_close(score, expected)


def exported(graph: Graph, folder: Path) -> ort.InferenceSession:
    path = folder / f"{graph.name}.onnx"
    write_graph(graph, path)
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def require_equal(graph: Graph, session: ort.InferenceSession, batch: int) -> None:
    inputs = {spec.name: random_input(spec, batch) for spec in graph.inputs}
    with torch.no_grad():
        expected = graph.module(*(torch.from_numpy(value) for value in inputs.values()))
    actual = session.run([spec.name for spec in graph.outputs], inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4, rtol=1e-5)


class _Unspeakable(torch.nn.Module):
    """What it does depends on its input in a way that no graph can say."""

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        return row + 1 if row.sum() > 0 else row


def test_what_onnx_can_not_express_is_refused_with_the_reason(tmp_path: Path) -> None:
    row = (TensorSpec("row", Datatype.FP32, (-1, 3)),)
    graph = Graph("stage_1", _Unspeakable(), (torch.ones(2, 3),), row, row)
    with pytest.raises(ExportError, match="stage_1 can't be expressed in ONNX: .+"):
        write_graph(graph, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
