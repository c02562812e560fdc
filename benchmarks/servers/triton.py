"""Triton on this machine (benchmarks/local_triton): its `ride`, and all experts as one graph.

The official image has the ONNX Runtime backend in C++, which costs less a call than the one here.
"""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc import model_config_pb2 as config

from benchmarks.local_triton.install import REQUIREMENTS
from benchmarks.local_triton.launch import Ports, triton_start
from benchmarks.program import Start
from benchmarks.servers.server import LaunchContext, ProtocolWay, ServerSpec
from serving.model.manifest import GRAPH_FILE, latest_version
from serving.model.manifest_json import load_manifest

_READY = "/v2/health/ready"
_SETTINGS = "dynamic batching, Python-based ONNX Runtime backend; gRPC"


def _start_ride(context: LaunchContext) -> Start:
    return _start(context, context.repository)


def _start_one_graph(context: LaunchContext) -> Start:
    from benchmarks.one_graph import merge_experts  # noqa: PLC0415 needs onnx
    from export.config_pbtxt import BACKEND, as_text, instance_group  # noqa: PLC0415 needs torch

    version = latest_version(context.repository)
    manifest = load_manifest(context.repository, version)
    model = context.folder / "repository" / "all_experts"
    (model / "1").mkdir(parents=True)
    merged = merge_experts(context.repository, version)
    (model / "1" / GRAPH_FILE).write_bytes(merged.SerializeToString())
    spec = manifest.image
    described = config.ModelConfig(
        name=model.name,
        backend=BACKEND,
        max_batch_size=1024,
        input=[
            config.ModelInput(
                name="image",
                data_type=config.TYPE_UINT8,
                dims=[spec.height, spec.width, 3],
            )
        ],
        output=[
            config.ModelOutput(
                name="probabilities", data_type=config.TYPE_FP32, dims=[manifest.num_classes]
            )
        ],
        instance_group=[instance_group(context.cores)],
        dynamic_batching=config.ModelDynamicBatching(),
    )
    described.parameters["intra_op_thread_count"].string_value = "1"  # as the stages have it
    (model / "config.pbtxt").write_text(as_text(described))
    return _start(context, model.parent)


def _start(context: LaunchContext, repository: Path) -> Start:
    ports = Ports(context.port, context.grpc_port, context.metrics_port)
    return triton_start(context.python, repository, context.folder, ports)


BLS = ServerSpec(
    name="triton-bls",
    title="Triton 2.51, BLS",
    settings=f"the model repository as it is, {_SETTINGS}",
    requirements=REQUIREMENTS,
    start=_start_ride,
    way=ProtocolWay("grpc", "ride", batched=True),
    ready_path=_READY,
)
ONE_GRAPH = ServerSpec(
    name="triton-one-graph",
    title="Triton 2.51, one graph",
    settings=f"one instance a core, {_SETTINGS}",
    requirements=REQUIREMENTS,
    start=_start_one_graph,
    way=ProtocolWay("grpc", "all_experts", batched=True),
    ready_path=_READY,
    routed=False,
)
