"""`ride serve` and `ride classify`."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.dataplane.classification import Classification
from serving.dataplane.dataplane import DataPlane
from serving.engine.provider import Provider
from serving.errors import RideError
from serving.images.decoders import EncodedImage
from serving.model.parameters import DEFAULT_TOP_K, CostParameters, parse_cost_parameters
from serving.model.top_k import check_top_k
from serving.settings import DEFAULT_GRPC_PORT, MEBIBYTE, ModelControl, Settings
from serving.tracing.logs import LogFormat

_DEFAULTS = Settings()
_REPOSITORY_HELP = "Model repository, as ride export writes it."


def serve(
    repository: Annotated[
        Path, typer.Argument(metavar="[MODEL_REPOSITORY]", help=_REPOSITORY_HELP)
    ] = Path("model_repository"),
    host: Annotated[
        str, typer.Option(envvar="RIDE_HOST", help="Address; 0.0.0.0 for every one.")
    ] = _DEFAULTS.host,
    port: Annotated[
        int, typer.Option(envvar="RIDE_PORT", help="HTTP port; 0 takes a free one.")
    ] = _DEFAULTS.port,
    grpc_port: Annotated[
        int, typer.Option(envvar="RIDE_GRPC_PORT", help="gRPC port; 0 takes a free one.")
    ] = DEFAULT_GRPC_PORT,
    grpc: Annotated[bool, typer.Option(help="Serve gRPC besides HTTP.")] = True,
    provider: Annotated[
        Provider,
        typer.Option(envvar="RIDE_PROVIDER", help="Where graphs run, in ONNX Runtime's terms."),
    ] = _DEFAULTS.provider,
    workers: Annotated[
        int,
        typer.Option(
            envvar="RIDE_WORKERS",
            help="Threads that infer on a CPU, and as many that decode; 0 takes one a core.",
        ),
    ] = _DEFAULTS.workers,
    model_control: Annotated[
        ModelControl,
        typer.Option(
            envvar="RIDE_MODEL_CONTROL",
            help="What changes the served version: nothing, a newer one in the repository, or "
            "the load and unload calls of the protocol, from whoever can reach the server.",
        ),
    ] = _DEFAULTS.model_control,
    poll_seconds: Annotated[
        float,
        typer.Option(
            envvar="RIDE_POLL_SECONDS",
            help="How often to look for a newer version (--model-control poll).",
        ),
    ] = _DEFAULTS.poll_seconds,
    latency_objective_ms: Annotated[
        float,
        typer.Option(
            envvar="RIDE_LATENCY_OBJECTIVE_MS",
            help="Once answers take six tenths of this, they get cheaper gear by gear, and are "
            "marked; where that is not enough, new requests get status 503.",
        ),
    ] = _DEFAULTS.latency_objective_s * 1_000,
    degrade_to: Annotated[
        str,
        typer.Option(
            envvar="RIDE_DEGRADE_TO",
            help="The cheapest gear that load may bring: fast or balanced; none for no change.",
        ),
    ] = _DEFAULTS.degrade_to or "none",
    max_body_mib: Annotated[
        int, typer.Option(envvar="RIDE_MAX_BODY_MIB", help="Largest request body, in MiB.")
    ] = _DEFAULTS.max_body_bytes // MEBIBYTE,
    max_total_body_mib: Annotated[
        int,
        typer.Option(
            envvar="RIDE_MAX_TOTAL_BODY_MIB",
            help="Bodies of all requests under way, in MiB; beyond it, status 503.",
        ),
    ] = _DEFAULTS.max_total_body_bytes // MEBIBYTE,
    max_image_mib: Annotated[
        int, typer.Option(envvar="RIDE_MAX_IMAGE_MIB", help="Largest encoded image, in MiB.")
    ] = _DEFAULTS.max_image_bytes // MEBIBYTE,
    max_image_pixels: Annotated[
        int, typer.Option(envvar="RIDE_MAX_IMAGE_PIXELS", help="Largest image, in pixels.")
    ] = _DEFAULTS.max_image_pixels,
    max_images_per_request: Annotated[
        int, typer.Option(envvar="RIDE_MAX_IMAGES_PER_REQUEST", help="Files or rows a request.")
    ] = _DEFAULTS.max_images_per_request,
    max_waiting_images: Annotated[
        int,
        typer.Option(
            envvar="RIDE_MAX_WAITING_IMAGES", help="Images under way; beyond it, status 503."
        ),
    ] = _DEFAULTS.max_waiting_images,
    body_timeout_s: Annotated[
        float,
        typer.Option(envvar="RIDE_BODY_TIMEOUT_S", help="Time for a client to send its body."),
    ] = _DEFAULTS.body_timeout_s,
    shared_memory: Annotated[
        bool,
        typer.Option(
            envvar="RIDE_SHARED_MEMORY",
            help="Let any client have shared memory of this machine read and written.",
        ),
    ] = _DEFAULTS.shared_memory,
    audit_share: Annotated[
        float,
        typer.Option(
            envvar="RIDE_AUDIT_SHARE",
            help="Share of answered images that all experts see as well, in idle moments, to "
            "measure what routing costs in accuracy; 0 for none.",
        ),
    ] = _DEFAULTS.audit_share,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="RIDE_LOG_FORMAT", help="How lines of the log look.")
    ] = _DEFAULTS.log_format,
    access_log: Annotated[
        bool,
        typer.Option(
            envvar="RIDE_ACCESS_LOG", help="Log every request: status, time, images, experts."
        ),
    ] = _DEFAULTS.access_log,
    trace: Annotated[
        bool,
        typer.Option(
            envvar="RIDE_TRACE",
            help="Send OpenTelemetry spans of requests over OTLP/HTTP, as the OTEL_* variables "
            "say (without any to localhost, port 4318, all of them).",
        ),
    ] = _DEFAULTS.trace,
    triton: Annotated[
        str,
        typer.Option(
            envvar="RIDE_TRITON",
            metavar="HOST:PORT[,HOST:PORT..]",
            help="Triton servers (their gRPC ports) that run the model in place of this process, "
            "which then decodes images and serves HTTP only.",
        ),
    ] = "",
    request_timeout_ms: Annotated[
        float,
        typer.Option(
            envvar="RIDE_REQUEST_TIMEOUT_MS",
            help="Time for Triton servers to answer a request, all tries together (--triton); "
            "beyond it, status 504.",
        ),
    ] = _DEFAULTS.request_timeout_s * 1_000,
) -> None:
    """Serve a model repository over HTTP and gRPC.

    Example: ride serve model_repository --port 8000
    """
    settings = Settings(
        host=host,
        port=port,
        grpc_port=grpc_port if grpc else None,
        provider=provider,
        workers=workers,
        model_control=model_control,
        poll_seconds=poll_seconds,
        latency_objective_s=latency_objective_ms / 1_000,
        degrade_to=None if degrade_to == "none" else degrade_to,
        max_body_bytes=max_body_mib * MEBIBYTE,
        max_total_body_bytes=max_total_body_mib * MEBIBYTE,
        max_image_bytes=max_image_mib * MEBIBYTE,
        max_image_pixels=max_image_pixels,
        max_images_per_request=max_images_per_request,
        max_waiting_images=max_waiting_images,
        body_timeout_s=body_timeout_s,
        shared_memory=shared_memory,
        log_format=log_format,
        access_log=access_log,
        trace=trace,
        audit_share=audit_share,
        triton=tuple(map(str.strip, triton.split(","))) if triton else (),
        request_timeout_s=request_timeout_ms / 1_000,
    )
    # The web framework is slow to import.
    if settings.triton:
        from serving.triton.app import serve as run_server
    else:
        from serving.app import serve as run_server
    run_server(repository, settings, Console())


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Image files.")],
    repository: Annotated[Path, typer.Option(help=_REPOSITORY_HELP)] = Path("model_repository"),
    top_k: Annotated[int, typer.Option(help="How many labels to print.")] = DEFAULT_TOP_K,
    max_experts: Annotated[
        int | None, typer.Option(help="Most experts that an image may take.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Go on where the router's score is above this, between 0 and 1."),
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="fast, balanced or full, where the model has these gears.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, as the server answers.")
    ] = False,
) -> None:
    """Classify image files without a server.

    A file that can't be classified is named on standard error, the others are answered, and the
    exit status is 1.

    Example: ride classify examples/*.png
    """
    from serving.app import build_data_plane

    given = {"max_experts": max_experts, "threshold": threshold, "quality": quality}
    parameters = parse_cost_parameters(given)
    plane = build_data_plane(repository, dataclasses.replace(_DEFAULTS, audit_share=0.0))
    try:
        answers, failed = asyncio.run(_classify_files(plane, files, parameters, top_k))
    finally:
        plane.close()
    if json:
        for answer in answers:
            print(orjson.dumps(dataclasses.asdict(answer)).decode())
    elif answers:
        Console().print(_table(answers))
    for error in failed:
        print(f"ride: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


async def _classify_files(
    plane: DataPlane,
    files: Sequence[Path],
    parameters: CostParameters,
    top_k: int,
) -> tuple[list[Classification], list[str]]:
    answers: list[Classification] = []
    failed: list[str] = []
    with plane.admit(parameters=parameters) as admitted:
        check_top_k(admitted.live.engine.manifest, top_k)
        for file in files:
            name = os.fsencode(file).decode(
                errors="replace"
            )  # names need not be Unicode, JSON must
            try:
                image = EncodedImage(_read(file, plane.settings.max_image_bytes), name)
                answers += (await admitted.classify([image], top_k)).results
            except OSError as error:
                failed.append(f"{name}: {error.strerror}")
            except RideError as error:
                failed.append(str(error))
    return answers, failed


def _read(file: Path, max_bytes: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(max_bytes + 1)  # one more, so that the decoder sees it is too large


def _table(answers: Sequence[Classification]) -> Table:
    table = Table("file", "labels", "experts", "compute")
    for answer in answers:
        labels = ", ".join(f"{label.label} {label.probability:.1%}" for label in answer.labels)
        cells = (
            answer.name or "",
            labels,
            str(answer.experts_used),
            f"{answer.compute_share:.0%}",
        )
        table.add_row(*map(Text, cells))  # Text, because brackets in a name are no markup
    return table
