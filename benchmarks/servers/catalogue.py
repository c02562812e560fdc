"""Every server that `ride bench` knows besides this one."""

from __future__ import annotations

import base64
import json
import sys

from benchmarks.checkout import CHECKOUT
from benchmarks.environments import ORT
from benchmarks.images import SampleImages
from benchmarks.program import Start
from benchmarks.servers import triton
from benchmarks.servers.ride import files
from benchmarks.servers.server import HttpWay, LaunchContext, ServerSpec

_PILLOW = "pillow==13.0.0"
_JSON = {"Content-Type": "application/json"}
_PNG = {"Content-Type": "image/png"}
_BOUNDARY = "ride-benchmark-boundary"


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def _start_litserve(context: LaunchContext) -> Start:
    app = "benchmarks.servers.litserve_app"
    return Start([str(context.python), "-m", app, str(context.port), str(context.cores)])


def _litserve_bodies(images: SampleImages) -> list[bytes]:
    return [json.dumps({"image": _base64(file)}).encode() for file in images.files]


_LITSERVE = ServerSpec(
    name="litserve",
    title="LitServe",
    settings="one worker process a core, no batching; JSON with the PNG file in base64",
    requirements=("litserve==0.2.19", ORT, _PILLOW),
    start=_start_litserve,
    way=HttpWay("/predict", _litserve_bodies, _JSON),
    ready_path="/health",
)


def _start_bentoml(context: LaunchContext) -> Start:
    app = "benchmarks.servers.bentoml_app:Ride"
    command = [str(context.python), "-m", "bentoml", "serve", app, "--working-dir", str(CHECKOUT)]
    environment = {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(context.folder),
        "RIDE_BENCH_WORKERS": str(context.cores),
    }
    return Start([*command, "--host", "127.0.0.1", "--port", str(context.port)], environment)


def _bentoml_bodies(images: SampleImages) -> list[bytes]:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    return [head + file + f"\r\n--{_BOUNDARY}--\r\n".encode() for file in images.files]


_BENTOML = ServerSpec(
    name="bentoml",
    title="BentoML",
    settings="one worker process a core, no batching; the PNG file as a form's file",
    requirements=("bentoml==1.4.40", ORT, _PILLOW),
    start=_start_bentoml,
    way=HttpWay(
        "/classify", _bentoml_bodies, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    ),
    ready_path="/readyz",
)


def _start_ray_serve(context: LaunchContext) -> Start:
    app = "benchmarks.servers.ray_serve_app"
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    command = [str(context.python), "-m", app, str(context.port), str(context.cores)]
    return Start(command, environment)


_RAY_SERVE = ServerSpec(
    name="ray-serve",
    title="Ray Serve",
    settings="one replica a core, no batching, no dashboard; the PNG file as the body",
    requirements=("ray[serve]==2.60.0", ORT, _PILLOW),
    start=_start_ray_serve,
    way=HttpWay("/", files, _PNG),
    ready_path="/-/healthz",
)


def _start_mlserver(context: LaunchContext) -> Start:
    settings = {
        "host": "127.0.0.1",
        "http_port": context.port,
        "grpc_port": context.grpc_port,
        "metrics_port": context.metrics_port,
        "parallel_workers": context.cores,
        "debug": False,
    }
    model = {"name": "ride", "implementation": "benchmarks.servers.mlserver_app.Ride"}
    (context.folder / "settings.json").write_text(json.dumps(settings))
    (context.folder / "model-settings.json").write_text(json.dumps(model))
    return Start([str(context.python.parent / "mlserver"), "start", str(context.folder)])


def _mlserver_bodies(images: SampleImages) -> list[bytes]:
    """perf_analyzer does not work with MLServer, which has no model configuration and knows no
    binary tensors; base64 of the PNG file is the smallest that its codecs take.
    """
    about = {"name": "image", "datatype": "BYTES", "shape": [1, 1]}
    kind = {"parameters": {"content_type": "base64"}}
    return [
        json.dumps({"inputs": [{**about, **kind, "data": [_base64(file)]}]}).encode()
        for file in images.files
    ]


_MLSERVER = ServerSpec(
    name="mlserver",
    title="MLServer",
    settings="one worker process a core, no batching; V2 JSON with the PNG file in base64",
    # With a newer uvloop its workers find no event loop and stop.
    requirements=("mlserver==1.7.1", "uvloop==0.21.0", ORT, _PILLOW),
    start=_start_mlserver,
    way=HttpWay("/v2/models/ride/infer", _mlserver_bodies, _JSON),
    ready_path="/v2/models/ride/ready",
)


def _start_fastapi_torch(context: LaunchContext) -> Start:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.servers.fastapi_torch_app:app"]
    flags = ["--host=127.0.0.1", f"--port={context.port}", f"--workers={context.cores}"]
    checkpoint = str(CHECKOUT / "checkpoints" / "cifar100-lt")
    environment = {"RIDE_BENCH_CHECKPOINT": checkpoint, "OMP_NUM_THREADS": "1"}
    return Start([*command, *flags, "--no-access-log"], environment)


_FASTAPI_TORCH = ServerSpec(
    name="fastapi-torch",
    title="FastAPI + PyTorch",
    settings="one uvicorn worker a core, eager fp32, one thread each; the PNG file as the body",
    requirements=(),
    start=_start_fastapi_torch,
    way=HttpWay("/classify", files, _PNG),
    ready_path="/health",
    routed=False,
)

OTHER_SERVERS: dict[str, ServerSpec] = {
    spec.name: spec
    for spec in (
        triton.BLS,
        triton.SELF_ROUTING,
        triton.ONE_GRAPH,
        _LITSERVE,
        _BENTOML,
        _RAY_SERVE,
        _MLSERVER,
        _FASTAPI_TORCH,
    )
}
