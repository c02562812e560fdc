"""Server settings: ports, limits, timeouts. Never the routing policy, which is the model's."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from enum import StrEnum

from serving.engine.overload import FLOORS
from serving.engine.provider import Provider
from serving.errors import SettingsError
from serving.tracing.logs import LogFormat

MEBIBYTE = 2**20
DEFAULT_GRPC_PORT = 8001
_DAY_S = 86_400
_REQUEST_TIMEOUT_S = 10.0
_AUDIT_SHARE = 0.01
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}", re.ASCII)


class ModelControl(StrEnum):
    """What changes the served version: nothing, a newer one in the repository, or requests.

    The names are those of Triton's model control modes.
    """

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


@dataclass(frozen=True)
class Settings:
    """How a server runs. The command line's flags and `RIDE_*` variables fill it.

    Attributes:
        host, port: where HTTP is served; port 0 takes a free one.
        grpc_port: where gRPC is served on the same host; 0 takes a free one, None serves none.
        provider: ONNX Runtime's execution provider.
        workers: threads that infer on a CPU, and as many that decode; 0 takes one a core.
        model_control: what changes the served version.
        poll_seconds: how often the repository is looked at for a newer version.
        latency_objective_s: the latency that overload control works for.
        degrade_to: the cheapest gear that overload may bring; None leaves every answer as asked.
        max_body_bytes: largest request body.
        max_total_body_bytes: bodies of all requests under way; beyond it, 503.
        max_image_bytes, max_image_pixels: largest encoded image and its size when decoded.
        max_images_per_request: files in one upload, rows in one tensor.
        max_waiting_images: images admitted and not yet answered; beyond it, 503.
        body_timeout_s: how long a client may take to send its body.
        log_format: how lines on standard error look.
        access_log: whether every request gets one.
        trace: whether requests become OpenTelemetry spans; `OTEL_*` variables say where they go.
        triton: Triton servers that run the model, as HOST:PORT; with none, this process runs it.
        request_timeout_s: how long Triton servers have for a request, over all tries.
        shared_memory: whether clients may name shared memory objects that this process then reads
            and writes; any client that can reach a port may do so.
        audit_share: of answered images, how many the full ensemble sees as well, in idle moments.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = DEFAULT_GRPC_PORT
    provider: Provider = Provider.CPU
    workers: int = 0
    model_control: ModelControl = ModelControl.POLL
    poll_seconds: float = 5.0
    latency_objective_s: float = 1.0
    degrade_to: str | None = "fast"
    max_body_bytes: int = 32 * MEBIBYTE
    max_total_body_bytes: int = 1_024 * MEBIBYTE
    max_image_bytes: int = 16 * MEBIBYTE
    max_image_pixels: int = 50_000_000
    max_images_per_request: int = 1_024
    max_waiting_images: int = 4_096
    body_timeout_s: float = 30.0
    shared_memory: bool = False
    log_format: LogFormat = LogFormat.TEXT
    access_log: bool = False
    trace: bool = False
    triton: tuple[str, ...] = ()
    request_timeout_s: float = _REQUEST_TIMEOUT_S
    audit_share: float = _AUDIT_SHARE

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.degrade_to is not None and self.degrade_to not in FLOORS:
            raise SettingsError(
                f"degrade_to must be one of {', '.join(FLOORS)}, not {self.degrade_to!r}"
            )
        if self.triton:
            self._check_triton()
        elif self.request_timeout_s != _REQUEST_TIMEOUT_S:
            raise SettingsError("request_timeout_s is for Triton servers, and --triton names none")

    def _check_numbers(self) -> None:
        for port in (self.port, self.grpc_port):
            if port is not None and not 0 <= port <= 65_535:
                raise SettingsError(f"the port must lie between 0 and 65535, not {port}")
        if not 0 <= self.audit_share <= 1:
            raise SettingsError(f"audit_share must lie between 0 and 1, not {self.audit_share}")
        if self.workers < 0:
            raise SettingsError(f"workers must not be negative, and is {self.workers}")
        limits = (
            "max_body_bytes",
            "max_total_body_bytes",
            "max_image_bytes",
            "max_image_pixels",
            "max_images_per_request",
            "max_waiting_images",
        )
        times = ("body_timeout_s", "poll_seconds", "latency_objective_s", "request_timeout_s")
        for name in limits + times:
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be positive, and is {getattr(self, name)}")
        for name in times:
            if getattr(self, name) > _DAY_S:
                raise SettingsError(f"{name} must be at most a day, and is {getattr(self, name)}")

    def _check_triton(self) -> None:
        for address in self.triton:
            port = address.rpartition(":")[2]
            if not _ADDRESS.fullmatch(address) or not 1 <= int(port) <= 65_535:
                raise SettingsError(f"a Triton server must be given as HOST:PORT, not {address!r}")
        if len(set(self.triton)) < len(self.triton):
            raise SettingsError("a Triton server is named twice")
        for asked, what in (
            (self.provider is not Provider.CPU, f"--provider {self.provider}"),
            (self.model_control is ModelControl.EXPLICIT, "--model-control explicit"),
            (self.shared_memory, "--shared-memory"),
            (self.audit_share not in {0, _AUDIT_SHARE}, f"--audit-share {self.audit_share}"),
        ):
            if asked:
                raise SettingsError(
                    f"{what} makes no sense with --triton: Triton runs the model; set it up there"
                )

    @property
    def threads(self) -> int:
        """Worker threads, resolved."""
        return self.workers or os.cpu_count() or 1
