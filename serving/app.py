"""Starts the embedded server: load, listen, announce, serve."""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from prometheus_client import CollectorRegistry
from rich.console import Console

from serving.errors import SettingsError
from serving.metrics import StageMetrics
from serving.model_host import ModelHost
from serving.service import ClassificationService
from serving.settings import Settings

_SHUTDOWN_GRACE_S = 10
_BACKLOG = 2048


def build_service(repository: Path, settings: Settings) -> ClassificationService:
    """A service on the repository's latest model version.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the execution provider does not work on this machine.
        InferenceError: if a graph fails while it is warmed up.
    """
    metrics = StageMetrics(CollectorRegistry())
    return ClassificationService(ModelHost(repository, settings, metrics), settings, metrics)


def serve(repository: Path, settings: Settings, console: Console) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Raises:
        ModelRepositoryError: if the repository can't be served.
        SettingsError: if the address can't be listened on.
    """
    _log_what_we_say()
    with _stopping_is_success():
        service = _service_beside_imports(repository, settings)
        try:
            with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
                runner.run(_serve(service, console))
        finally:
            service.close()


def _service_beside_imports(repository: Path, settings: Settings) -> ClassificationService:
    """Load and warm up the model on another thread while this one imports the transports."""
    with ThreadPoolExecutor(1) as other:
        loading = other.submit(build_service, repository, settings)
        importlib.import_module("serving.http")
        importlib.import_module("serving.grpc_server")
        return loading.result()


async def _serve(service: ClassificationService, console: Console) -> None:
    """Both transports on one event loop, until a signal that uvicorn handles."""
    # Slow to import, and not needed by `ride classify`.
    from serving.grpc_server import grpc_listening  # noqa: PLC0415
    from serving.http import create_app  # noqa: PLC0415
    from serving.inference import InferenceModels  # noqa: PLC0415

    models, settings = InferenceModels(service), service.settings
    config = uvicorn.Config(
        create_app(models),
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        log_level="info",
        access_log=False,  # a line a request costs as much as the rest of its HTTP
    )
    async with AsyncExitStack() as stack:
        listener = _listen(settings.host, settings.port, "--port")
        grpc_port = None
        if settings.grpc_port is not None:
            # gRPC does not tell why it can't listen, and prints a log of its own.
            _listen(settings.host, settings.grpc_port, "--grpc-port").close()
            listening = grpc_listening(models, _SHUTDOWN_GRACE_S)
            grpc_port = await stack.enter_async_context(listening)
        for running in (service.host.follow_repository(), service.loop_lag.watch()):
            stack.callback(asyncio.create_task(running).cancel)
        _announce(service, listener, grpc_port, console)
        await uvicorn.Server(config).serve(sockets=[listener])


def _log_what_we_say() -> None:
    """Our own lines look like uvicorn's. gRPC's stay out: bad messages would fill the log."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
    ours = logging.getLogger("serving")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)


@contextmanager
def _stopping_is_success() -> Iterator[None]:
    """Exit with status 0 at a signal: uvicorn raises it again once it has answered everyone."""
    stops = (signal.SIGINT, signal.SIGTERM)
    previous = {stop: signal.signal(stop, _exit) for stop in stops}
    try:
        yield
    finally:
        for stop, handler in previous.items():
            signal.signal(stop, handler)


def _exit(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, TypeError, UnicodeError) as error:
        listener.close()
        raise SettingsError(
            f"can't listen on {host}, port {port}: {_reason(error, flag)}"
        ) from None
    return listener


def _reason(error: Exception, flag: str) -> str:
    if not isinstance(error, OSError):  # Python can't even encode it
        return "this is not a host name"
    if error.errno == errno.EADDRINUSE:
        return f"another program uses it; choose another with {flag}"
    return error.strerror or str(error)


def _announce(
    service: ClassificationService,
    listener: socket.socket,
    grpc_port: int | None,
    console: Console,
) -> None:
    live = service.host.live
    manifest = live.engine.manifest
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    console.print(
        f"Serving ride version {live.version} ({manifest.num_classes} classes, "
        f"{manifest.num_experts} experts) at {address}\n"
        f"gRPC: {'switched off' if grpc_port is None else f'port {grpc_port}'}\n"
        f"Try: curl --data-binary @photo.jpg {address}/v1/classify\n"
        f"Interactive documentation: {address}/docs",
        soft_wrap=True,
        highlight=False,
        markup=False,  # an IPv6 address stands in brackets
    )
