"""`config.pbtxt`, read back with Triton's own protobuf, says what the ONNX file says."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from export.config_pbtxt import graph_config
from export.graphs import split_model
from export.placement import Placement, Target
from export.triton_models import write_triton_models
from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models
from tests.checkout import ROOT
from training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")

ONNX_TYPES = {triton.TYPE_UINT8: "tensor(uint8)", triton.TYPE_FP32: "tensor(float)"}


@pytest.mark.parametrize("model", graph_models(num_experts=2))
def test_config_describes_the_graph(repository: Path, model: str) -> None:
    text = (repository / model / "config.pbtxt").read_text()
    config = text_format.Parse(text, triton.ModelConfig())
    session = ort.InferenceSession(repository / model / "1" / "model.onnx")
    assert (config.name, config.backend) == (model, "onnxruntime")
    assert config.max_batch_size == 1024
    for described, actual in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert {(t.name, ONNX_TYPES[t.data_type], shape_in_graph(t)) for t in described} == {
            (t.name, t.type, tuple(t.shape[1:])) for t in actual
        }
        assert all(isinstance(t.shape[0], str) for t in actual), "the batch must be free"


def shape_in_graph(tensor: triton.ModelInput | triton.ModelOutput) -> tuple[int, ...]:
    return tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def config_of(repository: Path, model: str) -> triton.ModelConfig:
    text = (repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, triton.ModelConfig())


@pytest.fixture
def configured(repository: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """What Triton needs besides the graphs, for a target."""
    manifest, placement = load_manifest(repository, 1), Placement(request.param, instances=3)
    write_triton_models(tmp_path, manifest, 1, placement)
    return tmp_path


@pytest.mark.parametrize("target", Target)
def test_graphs_run_where_the_target_says(finished: Checkpoint, target: Target) -> None:
    first, last = split_model(finished.build_model(), 32, ())
    for graph in (first, last):
        config = graph_config(
            graph.name, graph.inputs, graph.outputs, Placement(target, instances=3)
        )
        (group,) = config.instance_group
        gpu = target is not Target.CPU
        assert group.kind == (group.KIND_GPU if gpu else group.KIND_CPU)
        assert group.count == (1 if gpu else 3)
        assert [warm_up.batch_size for warm_up in config.model_warmup] == ([1, 64] if gpu else [1])
        for warm_up in config.model_warmup:
            assert set(warm_up.inputs) == {tensor.name for tensor in config.input}
        accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
        wanted = ["tensorrt"] if target is Target.TENSORRT else []
        assert [accelerator.name for accelerator in accelerators] == wanted


@pytest.mark.parametrize(
    ("configured", "kind"),
    [(Target.CPU, "KIND_CPU"), (Target.GPU, "KIND_GPU"), (Target.TENSORRT, "KIND_GPU")],
    indirect=["configured"],
)
def test_routing_runs_beside_the_graphs_and_decoding_on_the_cpu(
    configured: Path, kind: str
) -> None:
    (routing,) = config_of(configured, "ride").instance_group
    (decoding,) = config_of(configured, "ride_decoding").instance_group
    assert (routing.count, decoding.count) == (4, 3)
    assert routing.kind == getattr(routing, kind)
    assert decoding.kind == decoding.KIND_CPU


@pytest.mark.parametrize("configured", [Target.CPU], indirect=True)
def test_an_image_file_is_decoded_and_routed(configured: Path) -> None:
    steps = config_of(configured, "ride_image").ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["ride_decoding", "ride"]
    for step in steps:
        inner = config_of(configured, step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in inner.input}
        assert set(step.output_map) == {tensor.name for tensor in inner.output}


def test_the_bundled_model_is_configured_as_an_export_would(tmp_path: Path) -> None:
    bundled = ROOT / "model_repository"
    write_triton_models(tmp_path, load_manifest(bundled, 1), 1, Placement())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 10
    for path in written:
        assert (bundled / path.relative_to(tmp_path)).read_bytes() == path.read_bytes(), path
