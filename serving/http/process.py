"""What every server process of ours does: log, listen, serve HTTP until a signal, end cleanly."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from types import FrameType

import uvicorn
from rich.console import Console
from starlette.types import ASGIApp

from serving.errors import SettingsError
from serving.metrics.request_recorder import RequestRecorder
from serving.metrics.requests import RequestMetrics
from serving.settings import Settings
from serving.tracing.logs import LogFormat, log_to_standard_error

SHUTDOWN_GRACE_S = 10
_BACKLOG = 2048


@contextmanager
def server_process(log_format: LogFormat) -> Iterator[None]:
    """What a server's process needs around its start: a log, and an end that is a success."""
    log_to_standard_error(log_format)
    with _stopping_is_success():
        yield


@contextmanager
def recording(metrics: RequestMetrics, settings: Settings) -> Iterator[RequestRecorder]:
    """What is kept of requests, as the settings say; at the end the last spans are sent.

    Raises:
        SettingsError: if requests can't be traced.
    """
    if not settings.trace:
        yield RequestRecorder(metrics, access_log=settings.access_log)
        return
    from serving.tracing.spans import Tracer  # noqa: PLC0415, its packages need not be installed

    with closing(Tracer()) as tracer:
        yield RequestRecorder(metrics, tracer, access_log=settings.access_log)


def run_until_signal(serving: Coroutine[None, None, None]) -> None:
    """Run what ends with `serve_http`, on uvicorn's event loop."""
    with asyncio.Runner(
        loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()
    ) as runner:
        runner.run(serving)


async def serve_http(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first."""
    config = uvicorn.Config(
        app,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        log_config=None,  # its lines are formatted as ours are
        access_log=False,  # ours, if any, knows more
    )
    await uvicorn.Server(config).serve(sockets=[listener])


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


def listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens; `flag` is what sets the port.

    Raises:
        SettingsError: if the address can't be listened on.
    """
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


def announce(
    console: Console, listener: socket.socket, served: str, grpc: str, root_path: str
) -> None:
    """Tell what is served where, and what to try first."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    root = f"{address}{root_path}"
    console.print(
        f"Serving {served} at {address}\n"
        f"gRPC: {grpc}\n"
        f"Try: curl --data-binary @photo.jpg {root}/v1/classify\n"
        f"Console: {root}/\n"
        f"Interactive documentation: {root}/docs",
        soft_wrap=True,
        highlight=False,
        markup=False,  # an IPv6 address stands in brackets
    )
