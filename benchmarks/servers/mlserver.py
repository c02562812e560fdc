"""MLServer: one worker process a core, the Open Inference Protocol's JSON over HTTP.

perf_analyzer does not work with it (it has no model configuration) and it knows no binary tensors,
so requests come from the HTTP load generator and hold the PNG file in base64, which is the smallest
that its codecs take.
"""

from __future__ import annotations

import base64
import json

from benchmarks.environments import ORT
from benchmarks.images import Images
from benchmarks.servers.server import Contender, HttpWay, Place
from benchmarks.start import Start


def _bodies(images: Images) -> list[bytes]:
    return [json.dumps({"inputs": [_tensor(file)]}).encode() for file in images.files]


def _tensor(file: bytes) -> dict[str, object]:
    return {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(file).decode()],
    }


def _start(place: Place) -> Start:
    settings = {
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": place.grpc_port,
        "metrics_port": place.metrics_port,
        "parallel_workers": place.cores,
        "debug": False,
    }
    model = {"name": "ride", "implementation": "benchmarks.servers.mlserver_app.Ride"}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return Start([str(place.python.parent / "mlserver"), "start", str(place.folder)])


CONTENDER = Contender(
    name="mlserver",
    title="MLServer",
    settings="one worker process a core, no batching; V2 JSON with the PNG file in base64",
    # With a newer uvloop its workers find no event loop and stop.
    requirements=("mlserver==1.7.1", "uvloop==0.21.0", ORT, "pillow==13.0.0"),
    start=_start,
    way=HttpWay("/v2/models/ride/infer", _bodies, {"Content-Type": "application/json"}),
    ready_path="/v2/models/ride/ready",
)
