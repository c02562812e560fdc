"""LitServe: one worker process a core, JSON with the PNG file in base64, as in its examples."""

from __future__ import annotations

import base64
import json

from benchmarks.environments import ORT
from benchmarks.images import Images
from benchmarks.servers.server import Contender, HttpWay, Place
from benchmarks.start import Start


def _bodies(images: Images) -> list[bytes]:
    return [
        json.dumps({"image": base64.b64encode(file).decode()}).encode() for file in images.files
    ]


def _start(place: Place) -> Start:
    app = "benchmarks.servers.litserve_app"
    return Start([str(place.python), "-m", app, str(place.port), str(place.cores)])


CONTENDER = Contender(
    name="litserve",
    title="LitServe",
    settings="one worker process a core, no batching; JSON with the PNG file in base64",
    requirements=("litserve==0.2.19", ORT, "pillow==13.0.0"),
    start=_start,
    way=HttpWay("/predict", _bodies, {"Content-Type": "application/json"}),
    ready_path="/health",
)
