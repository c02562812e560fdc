"""Starts the embedded server: load, listen, announce, serve."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from serving.dataplane.metrics import EmbeddedMetrics
from serving.dataplane.model_host import ModelHost
from serving.dataplane.service import ClassificationService
from serving.http.process import (
    SHUTDOWN_GRACE_S,
    announce,
    listen,
    recording,
    run_until_signal,
    serve_http,
    server_process,
)
from serving.settings import Settings


def build_service(repository: Path, settings: Settings) -> ClassificationService:
    """A service on the repository's latest model version.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the execution provider does not work on this machine.
        InferenceError: if a graph fails while it is warmed up.
    """
    metrics = EmbeddedMetrics()
    return ClassificationService(ModelHost(repository, settings, metrics), settings, metrics)


def serve(repository: Path, settings: Settings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the address can't be listened on.
    """
    with server_process(settings.log_format):
        service = _service_beside_imports(repository, settings)
        try:
            run_until_signal(_serve(service, console))
        finally:
            service.close()


def _service_beside_imports(repository: Path, settings: Settings) -> ClassificationService:
    """Load and warm up the model on another thread while this one imports the transports."""
    with ThreadPoolExecutor(1) as other:
        loading = other.submit(build_service, repository, settings)
        importlib.import_module("serving.http.app")
        importlib.import_module("serving.grpc.server")
        return loading.result()


async def _serve(service: ClassificationService, console: Console) -> None:
    """Both transports on one event loop, until a signal that uvicorn handles."""
    # Slow to import, and not needed by `ride classify`.
    from serving.dataplane.inference import InferenceModels  # noqa: PLC0415
    from serving.grpc.server import grpc_listening  # noqa: PLC0415
    from serving.http.app import create_app  # noqa: PLC0415

    models, settings = InferenceModels(service), service.settings
    async with AsyncExitStack() as stack:
        recorder = stack.enter_context(recording(service.metrics.requests, settings))
        listener = stack.enter_context(listen(settings.host, settings.port, "--port"))
        grpc_port = None
        if settings.grpc_port is not None:
            # gRPC does not tell why it can't listen, and prints a log of its own.
            listen(settings.host, settings.grpc_port, "--grpc-port").close()
            listening = grpc_listening(models, recorder, SHUTDOWN_GRACE_S)
            grpc_port = await stack.enter_async_context(listening)
        for running in (service.host.follow_repository(), service.loop_lag.watch()):
            stack.callback(asyncio.create_task(running).cancel)
        grpc = "switched off" if grpc_port is None else f"port {grpc_port}"
        announce(console, listener, _served(service), grpc)
        await serve_http(create_app(models, recorder), listener)


def _served(service: ClassificationService) -> str:
    live = service.host.live
    manifest = live.engine.manifest
    return (
        f"ride version {live.version} ({manifest.num_classes} classes, "
        f"{manifest.num_experts} experts)"
    )
