"""A real Triton without Docker: from the wheel of NVIDIA's PyTriton.

The wheel has the server and its Python backend but no ONNX Runtime backend, so a Python-based
backend of that name (`onnxruntime_backend.py`) runs the graphs; the official image has one in C++,
which costs less a call. `triton-bls` is the `ride` model in front of the repository's graphs:
`bls_model.py` drives the very routing algorithm of this server. `triton-one-graph` is all experts
merged.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.servers.contender import CHECKOUT, ORT, Contender, Place, ProtocolWay, Start
from serving.manifest import GRAPH_FILE, Manifest, latest_version
from serving.manifest_json import load_manifest

_BLS_INSTANCES_A_CORE = 4
_ROUTING = ("__init__.py", "errors.py", "json_fields.py", "manifest.py", "routing.py")
_HERE = Path(__file__).parent
_REQUIREMENTS = ("nvidia-pytriton==0.7.0", ORT, "numpy==1.26.4", "pillow==13.0.0")
_READY = "/v2/health/ready"


def _start_bls(place: Place) -> Start:
    repository = place.folder / "repository"
    shutil.copytree(place.repository, repository)
    for file in repository.glob("*/config.pbtxt"):
        file.write_text(file.read_text() + _instances(1))
    version = latest_version(place.repository)
    manifest = load_manifest(place.repository, version)
    _copy_bls_model(repository / "ride" / str(version))
    outputs = {
        "probabilities": ("FP32", manifest.num_classes),
        "experts_used": ("INT32", 1),
        "router_scores": ("FP32", manifest.num_experts - 1),
    }
    instances = _instances(_BLS_INSTANCES_A_CORE * place.cores)
    config = _config("ride", "python", manifest, outputs) + instances
    (repository / "ride" / "config.pbtxt").write_text(config)
    return _command(place, repository)


def _copy_bls_model(folder: Path) -> None:
    shutil.copy(_HERE / "bls_model.py", folder / "model.py")
    # Beside a virtual environment Triton's Python does not heed PYTHONPATH, but the model's folder.
    (folder / "serving").mkdir()
    for name in _ROUTING:
        shutil.copy(CHECKOUT / "serving" / name, folder / "serving")


def _start_one_graph(place: Place) -> Start:
    from benchmarks.one_graph import merge_experts  # noqa: PLC0415 needs onnx

    version = latest_version(place.repository)
    manifest = load_manifest(place.repository, version)
    model = place.folder / "repository" / "all_experts"
    (model / "1").mkdir(parents=True)
    merged = merge_experts(place.repository, version)
    (model / "1" / GRAPH_FILE).write_bytes(merged.SerializeToString())
    outputs = {"probabilities": ("FP32", manifest.num_classes)}
    config = _config("all_experts", "onnxruntime", manifest, outputs) + _instances(place.cores)
    (model / "config.pbtxt").write_text(config)
    return _command(place, model.parent)


def _config(
    name: str, backend: str, manifest: Manifest, outputs: dict[str, tuple[str, int]]
) -> str:
    size = f"{manifest.image.height}, {manifest.image.width}, 3"
    lines = [
        f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: 1024',
        f'input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {size} ] }} ]',
    ]
    for output, (datatype, width) in outputs.items():
        lines.append(f'output {{ name: "{output}" data_type: TYPE_{datatype} dims: [ {width} ] }}')
    return "\n".join(lines) + "\n"


def _instances(count: int) -> str:
    return f"\ninstance_group {{ count: {count} kind: KIND_CPU }}\ndynamic_batching {{ }}\n"


def _command(place: Place, repository: Path) -> Start:
    packages = next((place.python.parent.parent / "lib").glob("python3.*/site-packages"))
    server = packages / "pytriton" / "tritonserver"
    backends = place.folder / "backends"
    shutil.copytree(server / "backends" / "python", backends / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copy(_HERE / "onnxruntime_backend.py", backends / "onnxruntime" / "model.py")
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-port={place.port}",
        f"--grpc-port={place.grpc_port}",
        f"--metrics-port={place.metrics_port}",
    ]
    environment = {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
        "OMP_NUM_THREADS": "1",
    }
    return Start(command, environment)


_SETTINGS = "dynamic batching, Python-based ONNX Runtime backend; gRPC"

BLS = Contender(
    name="triton-bls",
    title="Triton 2.51, BLS",
    settings=f"{_BLS_INSTANCES_A_CORE} BLS instances a core, one of each graph, {_SETTINGS}",
    requirements=_REQUIREMENTS,
    start=_start_bls,
    way=ProtocolWay("grpc", "ride", batched=True),
    ready_path=_READY,
)
ONE_GRAPH = Contender(
    name="triton-one-graph",
    title="Triton 2.51, one graph",
    settings=f"one instance a core, {_SETTINGS}",
    requirements=_REQUIREMENTS,
    start=_start_one_graph,
    way=ProtocolWay("grpc", "all_experts", batched=True),
    ready_path=_READY,
    routed=False,
)
