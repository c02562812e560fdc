"""`config.pbtxt`, read back with Triton's own protobuf, says what the ONNX file says."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from serving.manifest import graph_models

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
