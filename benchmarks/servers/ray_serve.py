"""Ray Serve: one replica a core, the PNG file as the body."""

from __future__ import annotations

from benchmarks.environments import ORT
from benchmarks.servers.ride import files
from benchmarks.servers.server import Contender, HttpWay, Place
from benchmarks.start import Start


def _start(place: Place) -> Start:
    app = "benchmarks.servers.ray_serve_app"
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    command = [str(place.python), "-m", app, str(place.port), str(place.cores)]
    return Start(command, environment)


CONTENDER = Contender(
    name="ray-serve",
    title="Ray Serve",
    settings="one replica a core, no batching, no dashboard; the PNG file as the body",
    requirements=("ray[serve]==2.60.0", ORT, "pillow==13.0.0"),
    start=_start,
    way=HttpWay("/", files, {"Content-Type": "image/png"}),
    ready_path="/-/healthz",
)
