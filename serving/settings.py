"""Server settings: ports, limits, timeouts. Never the routing policy, which is the model's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from serving.engine.cores import usable_cores
from serving.engine.overload import FLOORS
from serving.engine.provider import Provider
from serving.errors import SettingsError
from serving.model.manifest import MODEL_NAME, RULES_MODEL_NAME, SELF_ROUTING_MODEL_NAME
from serving.options import MOST_USED, as_typed, option
from serving.tracing.logs import LogFormat

MEBIBYTE = 2**20
_DAY_S = 86_400
_REQUEST_TIMEOUT_S = 10.0
_AUDIT_SHARE = 0.01
_PATH = re.compile(r"(/[\w.~-]+)+", re.ASCII)
_OWN_PATHS = re.compile(r"/(v1|v2|console|docs|metrics|openapi\.json|static-offline-docs)(/.*)?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")
_NEVER_SENT = re.compile("https://.*:443|http://.*:80")
"""Origins with the port that browsers leave out."""
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}", re.ASCII)

LISTEN = "Listen"
_MODEL = "Model"
_LIMITS = "Load and limits"
_AUDIT = "Audit"
_OBSERVABILITY = "Observability"
_TRITON = "Triton"


class ModelControl(StrEnum):
    """What changes the served version: nothing, a newer one in the repository, or requests.

    The names are those of Triton's model control modes.
    """

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


class TritonModel(StrEnum):
    """The models of a Triton that answer prepared images, by their names there."""

    RIDE = MODEL_NAME
    GRAPH = SELF_ROUTING_MODEL_NAME
    GRAPH_WITH_RULES = RULES_MODEL_NAME


def _floor(typed: str) -> str | None:
    return None if typed == "none" else typed


def _addresses(typed: str) -> tuple[str, ...]:
    return tuple(map(str.strip, typed.split(","))) if typed else ()


@dataclass(frozen=True)
class Settings:
    """How a server runs: flags and `RIDE_*` variables fill it.

    `port` and `grpc_port` 0 take a free one; `grpc_port` None serves no gRPC.
    """

    port: Annotated[int, option("HTTP port; 0 takes a free one.", MOST_USED)] = 8000
    host: Annotated[str, option("Address; 0.0.0.0 for every one.", MOST_USED)] = "127.0.0.1"
    workers: Annotated[
        int,
        option(
            "Threads that infer on a CPU, and as many that decode; 0 takes one for each core that "
            "this process may use.",
            MOST_USED,
        ),
    ] = 0
    provider: Annotated[
        Provider, option("Where graphs run, in ONNX Runtime's terms.", MOST_USED)
    ] = Provider.CPU
    latency_objective_s: Annotated[
        float,
        option(
            "Once answers take six tenths of this, they get cheaper gear by gear, and are "
            "marked; where that is not enough, new requests get status 503.",
            MOST_USED,
            flag="--latency-objective-ms",
            per=1_000,
        ),
    ] = 1.0
    grpc_port: Annotated[int | None, option("gRPC port; 0 takes a free one.", LISTEN, kind=int)] = (
        8001
    )
    root_path: Annotated[
        str,
        option(
            "The path below which a proxy shows this server, as /models/ride; whether the proxy "
            "takes it off its requests or not.",
            LISTEN,
        ),
    ] = ""
    cors_origins: Annotated[
        tuple[str, ...],
        option(
            "An origin whose web pages may call this server, as https://shop.example; * for "
            "every one. Once for each.",
            LISTEN,
            flag="--cors-origin",
            kind=list[str],
            read=tuple,
        ),
    ] = ()
    model_control: Annotated[
        ModelControl,
        option(
            "What changes the served version: nothing, a newer one in the repository, or the load "
            "and unload calls of the protocol, from whoever can reach the server.",
            _MODEL,
        ),
    ] = ModelControl.POLL
    poll_seconds: Annotated[
        float, option("How often to look for a newer version (--model-control poll).", _MODEL)
    ] = 5.0
    degrade_to: Annotated[
        str | None,
        option(
            "The cheapest gear that load may bring: fast or balanced; none for no change.",
            _LIMITS,
            kind=str,
            read=_floor,
        ),
    ] = "fast"
    max_body_bytes: Annotated[
        int, option("Largest request body, in MiB.", _LIMITS, flag="--max-body-mib", unit=MEBIBYTE)
    ] = 32 * MEBIBYTE
    max_total_body_bytes: Annotated[
        int,
        option(
            "Bodies of all requests under way, in MiB; beyond it, status 503.",
            _LIMITS,
            flag="--max-total-body-mib",
            unit=MEBIBYTE,
        ),
    ] = 1_024 * MEBIBYTE
    max_image_bytes: Annotated[
        int,
        option("Largest encoded image, in MiB.", _LIMITS, flag="--max-image-mib", unit=MEBIBYTE),
    ] = 16 * MEBIBYTE
    max_image_pixels: Annotated[int, option("Largest image, in pixels.", _LIMITS)] = 50_000_000
    max_images_per_request: Annotated[int, option("Files or rows a request.", _LIMITS)] = 1_024
    max_waiting_images: Annotated[
        int, option("Images under way; beyond it, status 503.", _LIMITS)
    ] = 4_096
    body_timeout_s: Annotated[float, option("Time for a client to send its body.", _LIMITS)] = 30.0
    shared_memory: Annotated[
        bool,
        option(
            "Let any client have shared memory of this machine read and written.",
            _LIMITS,
            negatable=True,
        ),
    ] = False
    audit_share: Annotated[
        float,
        option(
            "Share of answered images that all experts see as well, in idle moments, to measure "
            "what routing costs in accuracy; 0 for none.",
            _AUDIT,
        ),
    ] = _AUDIT_SHARE
    log_format: Annotated[LogFormat, option("How lines of the log look.", _OBSERVABILITY)] = (
        LogFormat.TEXT
    )
    access_log: Annotated[
        bool,
        option("Log every request: status, time, images, experts.", _OBSERVABILITY, negatable=True),
    ] = False
    trace: Annotated[
        bool,
        option(
            "Send OpenTelemetry spans of requests over OTLP/HTTP, as the OTEL_* variables say "
            "(without any to localhost, port 4318, all of them).",
            _OBSERVABILITY,
            negatable=True,
        ),
    ] = False
    triton: Annotated[
        tuple[str, ...],
        option(
            "Triton servers (their gRPC ports) that run the model in place of this process, which "
            "then decodes images and serves HTTP only.",
            _TRITON,
            kind=str,
            read=_addresses,
            shown="",
            metavar="HOST:PORT[,HOST:PORT..]",
        ),
    ] = ()
    triton_model: Annotated[
        TritonModel,
        option(
            "Which of Triton's models is asked (--triton). ride_graph needs no Python there, and "
            "takes no max_experts, threshold or quality; ride_graph_rules takes them.",
            _TRITON,
        ),
    ] = TritonModel.RIDE
    request_timeout_s: Annotated[
        float,
        option(
            "Time for Triton servers to answer a request, all tries together (--triton); beyond "
            "it, status 504.",
            _TRITON,
            flag="--request-timeout-ms",
            per=1_000,
        ),
    ] = _REQUEST_TIMEOUT_S

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_addresses()
        if self.degrade_to is not None and self.degrade_to not in FLOORS:
            raise SettingsError(
                f"--degrade-to must be one of {', '.join(FLOORS)}, not {self.degrade_to!r}"
            )
        if self.triton:
            self._check_triton()
            return
        for name, default in (
            ("request_timeout_s", _REQUEST_TIMEOUT_S),
            ("triton_model", TritonModel.RIDE),
        ):
            if getattr(self, name) != default:
                flag, _ = as_typed(self, name)
                raise SettingsError(f"{flag} is for Triton servers, and --triton names none")

    def _check_numbers(self) -> None:
        for name, port in (("port", self.port), ("grpc_port", self.grpc_port)):
            if port is not None and not 0 <= port <= 65_535:
                raise self._refused(name, "must lie between 0 and 65535")
        if not 0 <= self.audit_share <= 1:
            raise self._refused("audit_share", "must lie between 0 and 1")
        if self.workers < 0:
            raise self._refused("workers", "must not be negative")
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
                raise self._refused(name, "must be positive")
        for name in times:
            if getattr(self, name) > _DAY_S:
                raise self._refused(name, "must be at most a day")

    def _refused(self, field: str, rule: str) -> SettingsError:
        """Said of the flag, in its unit."""
        flag, typed = as_typed(self, field)
        return SettingsError(f"{flag} {rule}, not {typed}")

    def _check_addresses(self) -> None:
        if self.root_path and not _PATH.fullmatch(self.root_path):
            raise SettingsError(
                "--root-path must be a path such as /models/ride, without a slash at its end, "
                f"not {self.root_path!r}"
            )
        if _OWN_PATHS.fullmatch(self.root_path):
            raise SettingsError(
                f"--root-path must not begin as this server's own paths do: {self.root_path!r}"
            )
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise SettingsError(
                    "--cors-origin takes a scheme, a host and perhaps a port, as "
                    f"https://shop.example, or *, not {origin!r}"
                )
            if _NEVER_SENT.fullmatch(origin):
                raise SettingsError(
                    f"--cors-origin {origin!r} matches no browser: leave the port out, as they do"
                )

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
    def most_images(self) -> int:
        """A request's, files or rows; what will never fit is too large, not to be tried again."""
        return min(self.max_images_per_request, self.max_waiting_images)

    @property
    def threads(self) -> int:
        """Worker threads, resolved."""
        return self.workers or usable_cores()
