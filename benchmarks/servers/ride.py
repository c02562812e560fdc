"""This server, in each of the forms that a client can choose."""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmarks.images import Images
from benchmarks.servers.server import Contender, HttpWay, Place, ProtocolWay
from benchmarks.start import Start

_READY = "/v2/health/ready"


def pixels(images: Images) -> list[bytes]:
    """Bodies of raw pixels, one image each."""
    return [image.tobytes() for image in images.pixels]


def files(images: Images) -> list[bytes]:
    """Bodies that are image files."""
    return list(images.files)


PNG_WAY = HttpWay("/v1/classify?top_k=1", files, {"Content-Type": "image/png"})
PIXELS_WAY = HttpWay("/v2/models/ride/infer", pixels, {"Inference-Header-Content-Length": "0"})


def _start(place: Place) -> Start:
    command = [sys.executable, "-m", "ride", "serve", str(place.repository)]
    return Start([*command, f"--port={place.port}", f"--grpc-port={place.grpc_port}"])


def with_flags(contender: Contender, *flags: str) -> Contender:
    """The same with further flags of `ride serve`."""

    def start(place: Place) -> Start:
        command = contender.start(place)
        return Start([*command.command, *flags], command.environment)

    return replace(contender, start=start, settings=" ".join(flags))


def _ride(name: str, settings: str, way: HttpWay | ProtocolWay) -> Contender:
    title = f"this server, {settings}"
    return Contender(name, title, "every setting at its default", (), _start, way, _READY)


WAYS = (
    _ride("ride-grpc", "gRPC", ProtocolWay("grpc", "ride")),
    _ride(
        "ride-full",
        "gRPC, all experts for every image",
        ProtocolWay("grpc", "ride", flags=("--request-parameter", "quality:full:string")),
    ),
    _ride("ride-http", "HTTP, binary tensors", ProtocolWay("http", "ride")),
    _ride("ride-png", "PNG files to /v1/classify", PNG_WAY),
)
