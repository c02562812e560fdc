"""Starts the server in front of Triton: listen, announce, serve."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rich.console import Console

from serving.http.front_app import create_front_app
from serving.http.process import (
    announce,
    listen,
    recording,
    run_until_signal,
    serve_http,
    server_process,
)
from serving.metrics.definitions import Server
from serving.metrics.registry import Registry
from serving.metrics.requests import RequestMetrics
from serving.model.versions import ModelVersions
from serving.settings import Settings
from serving.triton.backends import TritonBackends
from serving.triton.front import TritonFront


def serve(repository: Path, settings: Settings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Raises:
        ModelRepositoryError: if the repository's latest manifest can't be read.
        SettingsError: if the address can't be listened on.
    """
    with server_process(settings.log_format):
        run_until_signal(_serve(ModelVersions(repository), settings, console))


async def _serve(versions: ModelVersions, settings: Settings, console: Console) -> None:
    backends = TritonBackends(settings.triton, versions, settings.triton_model)
    registry = Registry(Server.FRONT)
    front = TritonFront(backends, settings, registry)
    listener = listen(settings.host, settings.port, "--port")
    with closing(front), recording(RequestMetrics(registry), settings) as recorder:
        async with backends:
            served = f"ride in front of Triton ({backends.state})"
            announce(
                console, listener, served, "none here; Triton serves it itself", settings.root_path
            )
            await serve_http(create_front_app(front, recorder), listener)
