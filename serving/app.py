"""Starts the embedded server: load, listen, announce, serve."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from serving.dataplane.dataplane import DataPlane
from serving.dataplane.metrics import EmbeddedMetrics
from serving.dataplane.model_host import ModelHost
from serving.http.process import (
    SHUTDOWN_GRACE_S,
    announce,
    listen,
    recording,
    run_until_signal,
    serve_http,
    server_process,
)
from serving.images.formats import BY_DEFAULT
from serving.settings import Settings


def build_data_plane(
    repository: Path, settings: Settings, formats: tuple[str, ...] = BY_DEFAULT
) -> DataPlane:
    """A data plane on the repository's latest model version, which decodes these formats.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the execution provider does not work on this machine.
        InferenceError: if a graph fails while it is warmed up.
    """
    metrics = EmbeddedMetrics()
    return DataPlane(ModelHost(repository, settings, metrics), settings, metrics, formats)


def serve(repository: Path, settings: Settings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the address can't be listened on.
    """
    with server_process(settings.log_format):
        plane = _loaded_beside_imports(repository, settings)
        try:
            run_until_signal(_serve(plane, console))
        finally:
            plane.close()


def _loaded_beside_imports(repository: Path, settings: Settings) -> DataPlane:
    """Load and warm up the model on another thread while this one imports the transports."""
    with ThreadPoolExecutor(1) as other:
        loading = other.submit(build_data_plane, repository, settings)
        importlib.import_module("serving.http.app")
        importlib.import_module("serving.grpc.server")
        return loading.result()


async def _serve(plane: DataPlane, console: Console) -> None:
    """Both transports on one event loop, until a signal that uvicorn handles."""
    # Slow to import, and not needed by `ride classify`.
    from serving.grpc.server import grpc_listening  # noqa: PLC0415
    from serving.http.app import create_app  # noqa: PLC0415

    settings = plane.settings
    async with AsyncExitStack() as stack:
        recorder = stack.enter_context(recording(plane.metrics.requests, settings))
        listener = stack.enter_context(listen(settings.host, settings.port, "--port"))
        grpc_port = None
        if settings.grpc_port is not None:
            # gRPC does not tell why it can't listen, and prints a log of its own.
            listen(settings.host, settings.grpc_port, "--grpc-port").close()
            listening = grpc_listening(plane, recorder, SHUTDOWN_GRACE_S)
            grpc_port = await stack.enter_async_context(listening)
        for running in (plane.host.follow_repository(), plane.loop_lag.watch()):
            stack.callback(asyncio.create_task(running).cancel)
        grpc = "switched off" if grpc_port is None else f"port {grpc_port}"
        announce(console, listener, _served(plane), grpc, settings.root_path)
        await serve_http(create_app(plane, recorder), listener)


def _served(plane: DataPlane) -> str:
    live = plane.host.live
    manifest = live.engine.manifest
    return (
        f"ride version {live.version} ({manifest.num_classes} classes, "
        f"{manifest.num_experts} experts)"
    )
