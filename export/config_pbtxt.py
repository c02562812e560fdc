"""`config.pbtxt` of a graph: what Triton needs to know of it, through Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from export.placement import Placement, Target
from serving.dataplane.tensors import TensorSpec
from serving.in_triton import MAX_BATCH_SIZE

CONFIG_FILE = "config.pbtxt"
BACKEND = "onnxruntime"
VERSIONS_SERVED = 2
"""Of a graph: requests that began with the version before must still find it."""

_WARM_UP_BATCHES = {Target.CPU: (1,), Target.GPU: (1, 64), Target.TENSORRT: (1, 64)}
"""TensorRT builds engines for the range of batches that it has seen."""


def graph_config(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    placement: Placement,
) -> triton.ModelConfig:
    """The configuration of a graph that takes and gives these tensors."""
    config = triton.ModelConfig(
        name=name,
        backend=BACKEND,
        max_batch_size=MAX_BATCH_SIZE,
        version_policy=latest(VERSIONS_SERVED),
        input=[triton.ModelInput(**_fields(tensor)) for tensor in inputs],
        output=[triton.ModelOutput(**_fields(tensor)) for tensor in outputs],
        instance_group=[_instances(placement)],
        dynamic_batching=triton.ModelDynamicBatching(),
        model_warmup=[_warm_up(inputs, batch) for batch in _WARM_UP_BATCHES[placement.target]],
    )
    if placement.target is Target.CPU:
        # Parallel requests use the cores better than parallel operators.
        config.parameters["intra_op_thread_count"].string_value = "1"
    if placement.target is Target.TENSORRT:
        config.optimization.CopyFrom(_tensorrt())
    return config


def latest(versions: int) -> triton.ModelVersionPolicy:
    """Serve so many of the newest versions."""
    policy = triton.ModelVersionPolicy.Latest(num_versions=versions)
    return triton.ModelVersionPolicy(latest=policy)


def instance_group(count: int, *, gpu: bool = False) -> triton.ModelInstanceGroup:
    """So many instances, on the CPU or on each GPU."""
    kind = triton.ModelInstanceGroup
    return kind(count=count, kind=kind.KIND_GPU if gpu else kind.KIND_CPU)


def as_text(config: triton.ModelConfig) -> str:
    """The text of `config.pbtxt`."""
    text: str = text_format.MessageToString(config)
    return text


def _instances(placement: Placement) -> triton.ModelInstanceGroup:
    if placement.target is Target.CPU:
        return instance_group(placement.instances)
    return instance_group(1, gpu=True)


def _warm_up(inputs: Sequence[TensorSpec], batch: int) -> triton.ModelWarmup:
    return triton.ModelWarmup(
        name=f"zeros, batch {batch}",
        batch_size=batch,
        inputs={
            tensor.name: triton.ModelWarmup.Input(
                data_type=tensor.datatype.config_name, dims=tensor.shape[1:], zero_data=True
            )
            for tensor in inputs
        },
    )


def _tensorrt() -> triton.ModelOptimizationPolicy:
    accelerators = triton.ModelOptimizationPolicy.ExecutionAccelerators
    accelerator = accelerators.Accelerator(
        name="tensorrt", parameters={"precision_mode": "FP16", "trt_engine_cache_enable": "true"}
    )
    return triton.ModelOptimizationPolicy(
        execution_accelerators=accelerators(gpu_execution_accelerator=[accelerator])
    )


def _fields(tensor: TensorSpec) -> dict[str, object]:
    fields = {"name": tensor.name, "data_type": tensor.datatype.config_name}
    if dims := tensor.shape[1:]:
        return {**fields, "dims": dims}
    # Triton has no tensors without dimensions beside the batch: [N, 1] outside, [N] in the graph.
    return {**fields, "dims": [1], "reshape": triton.ModelTensorReshape(shape=[])}
