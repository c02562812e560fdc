"""This server, in each of the forms that a client can choose."""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmarks.images import SampleImages
from benchmarks.program import Start
from benchmarks.servers.server import HttpWay, LaunchContext, ProtocolWay, ServerSpec

_READY = "/v2/health/ready"
PATIENT = "--latency-objective-ms=600000"
"""No answer is refused or made cheaper."""


def pixels(images: SampleImages) -> list[bytes]:
    """Bodies of raw pixels, one image each."""
    return [image.tobytes() for image in images.pixels]


def files(images: SampleImages) -> list[bytes]:
    """Bodies that are image files."""
    return list(images.files)


PNG_WAY = HttpWay("/v1/classify?top_k=1", files, {"Content-Type": "image/png"})
PIXELS_WAY = HttpWay("/v2/models/ride/infer", pixels, {"Inference-Header-Content-Length": "0"})


def _start(context: LaunchContext) -> Start:
    command = [sys.executable, "-m", "ride", "serve", str(context.repository)]
    return Start([*command, f"--port={context.port}", f"--grpc-port={context.grpc_port}"])


def with_flags(spec: ServerSpec, *flags: str) -> ServerSpec:
    """The same with further flags of `ride serve`."""

    def start(context: LaunchContext) -> Start:
        command = spec.start(context)
        return Start([*command.command, *flags], command.environment)

    return replace(spec, start=start)


def _ride(name: str, settings: str, way: HttpWay | ProtocolWay) -> ServerSpec:
    title = f"this server, {settings}"
    return ServerSpec(name, title, "every setting at its default", (), _start, way, _READY)


PNG = _ride("ride-png", "PNG files to /v1/classify", PNG_WAY)
WAYS = (
    _ride("ride-grpc", "gRPC", ProtocolWay("grpc", "ride")),
    _ride(
        "ride-full",
        "gRPC, all experts for every image",
        ProtocolWay("grpc", "ride", flags=("--request-parameter", "quality:full:string")),
    ),
    _ride("ride-http", "HTTP, binary tensors", ProtocolWay("http", "ride")),
    PNG,
)
