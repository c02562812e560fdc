"""`config.pbtxt`: what Triton needs to know of a graph, through Triton's own protobuf."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from export.graphs import Graph, TensorSpec

MAX_BATCH_SIZE = 1_024
BACKEND = "onnxruntime"
_DATA_TYPES = {"uint8": triton.TYPE_UINT8, "float32": triton.TYPE_FP32}


def config_pbtxt(graph: Graph) -> str:
    """The text of a graph's `config.pbtxt`."""
    config = triton.ModelConfig(
        name=graph.name,
        backend=BACKEND,
        max_batch_size=MAX_BATCH_SIZE,
        input=[triton.ModelInput(**_fields(tensor)) for tensor in graph.inputs],
        output=[triton.ModelOutput(**_fields(tensor)) for tensor in graph.outputs],
    )
    return text_format.MessageToString(config)


def _fields(tensor: TensorSpec) -> dict[str, object]:
    fields = {"name": tensor.name, "data_type": _DATA_TYPES[tensor.datatype]}
    if tensor.shape:
        return {**fields, "dims": tensor.shape}
    # Triton has no tensors without dimensions beside the batch: [N, 1] outside, [N] in the graph.
    return {**fields, "dims": [1], "reshape": triton.ModelTensorReshape(shape=[])}
