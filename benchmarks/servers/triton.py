"""Triton on this machine (benchmarks/local_triton): its `ride`, the same as one self-routing graph,
and all experts as one graph.

The official image has the ONNX Runtime backend in C++, which costs less a call than the one here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.local_triton.install import REQUIREMENTS
from benchmarks.local_triton.launch import Ports, triton_start
from benchmarks.program import Start
from benchmarks.servers.server import LaunchContext, ProtocolWay, ServerSpec
from serving.model.manifest import SELF_ROUTING_MODEL_NAME
from serving.model.manifest_json import load_manifest
from serving.model.repository import GRAPH_FILE, latest_version

_READY = "/v2/health/ready"
_SETTINGS = "dynamic batching, Python-based ONNX Runtime backend; gRPC"

_ONE_GRAPH_CONFIG = """\
backend: "onnxruntime"
max_batch_size: 1024
input {{ name: "image" data_type: TYPE_UINT8 dims: [{height}, {width}, 3] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [{classes}] }}
instance_group {{ count: {cores} kind: KIND_CPU }}
dynamic_batching {{}}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
"""
"""One thread for each operator, as the stages have it."""


def _start_ride(context: LaunchContext) -> Start:
    return _start(context, context.repository)


def _start_self_routing(context: LaunchContext) -> Start:
    """With nothing else in the repository: no process of Python models runs beside it."""
    alone = context.folder / "repository" / SELF_ROUTING_MODEL_NAME
    shutil.copytree(context.repository / SELF_ROUTING_MODEL_NAME, alone)
    return _start(context, alone.parent)


def _start_one_graph(context: LaunchContext) -> Start:
    from benchmarks.one_graph import merge_experts  # noqa: PLC0415 needs onnx

    version = latest_version(context.repository)
    manifest = load_manifest(context.repository, version)
    model = context.folder / "repository" / "all_experts"
    (model / "1").mkdir(parents=True)
    merged = merge_experts(context.repository, version)
    (model / "1" / GRAPH_FILE).write_bytes(merged.SerializeToString())
    config = _ONE_GRAPH_CONFIG.format(
        height=manifest.image.height,
        width=manifest.image.width,
        classes=manifest.num_classes,
        cores=context.cores,
    )
    (model / "config.pbtxt").write_text(config)
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
SELF_ROUTING = ServerSpec(
    name="triton-self-routing",
    title="Triton 2.51, ride_graph",
    settings=f"stages and routing in one graph, as exported, {_SETTINGS}",
    requirements=REQUIREMENTS,
    start=_start_self_routing,
    way=ProtocolWay("grpc", SELF_ROUTING_MODEL_NAME, batched=True),
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
