"""One point of a table: load on a running server, and what it cost the server."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks import http_load, perf_analyzer
from benchmarks.errors import LoadFailed, LoadTimedOut
from benchmarks.http_load import HttpReport, Target
from benchmarks.images import Images, write_input_data
from benchmarks.process import cpu_seconds, resident_bytes
from benchmarks.servers.server import HttpWay, ProtocolWay, Running

_TRIAL_REQUESTS = 200
_TRIAL_TIMEOUT_S, _TIMEOUT_S, _SLOWEST = 60.0, 30.0, 4.0
_MOST_REQUESTS = 200_000
_LEAST_REQUESTS_A_CLIENT = 4


@dataclass(frozen=True)
class Point:
    """What one number of clients got, and what it cost the server.

    Attributes:
        clients: that asked at the same time, one image a request.
        images: that were classified.
        images_per_s: answers; the load generator shares the machine's cores.
        mean_ms: mean time to an answer.
        p50_ms: half of the answers took at most this.
        p99_ms: and 99 % this.
        cpu_ms_per_image: processor time of the server's processes, user and system.
        resident_mib: memory of the server's processes afterwards.
    """

    clients: int
    images: int
    images_per_s: float
    mean_ms: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_image: float
    resident_mib: float


def closed(
    server: Running,
    way: HttpWay | ProtocolWay,
    images: Images,
    *,
    clients: int,
    duration_s: float,
    requests: int | None = None,
    trial: int | None = None,
) -> Point:
    """Load from `clients` that ask again as soon as they are answered, in whole passes.

    A short trial comes first, of `trial` requests where it is given: it warms the server up and
    says how many requests take about `duration_s`, unless `requests` says how many. A load that
    hangs is ended after a multiple of the time that it should take.

    Raises:
        LoadFailed: if a request failed, or the load generator did.
        ServerFailed: if the server's process ended.
    """
    if trial is None:
        trial = min(_TRIAL_REQUESTS, len(images))
    asked, _ = _ask_twice(server, way, images, trial, clients, _TRIAL_TIMEOUT_S)
    if requests is None:
        enough = max(asked.per_s * duration_s, _LEAST_REQUESTS_A_CLIENT * clients)
        requests = min(_MOST_REQUESTS, images.passes(enough))
    timeout_s = _TIMEOUT_S + _SLOWEST * requests / asked.per_s
    asked, cpu_s = _ask_twice(server, way, images, requests, clients, timeout_s)
    return Point(
        clients=clients,
        images=requests,
        images_per_s=asked.per_s,
        mean_ms=asked.mean_ms,
        p50_ms=asked.p50_ms,
        p99_ms=asked.p99_ms,
        cpu_ms_per_image=cpu_s / requests * 1e3,
        resident_mib=resident_bytes(server.pid) / 2**20,
    )


@dataclass(frozen=True)
class _Asked:
    """What a load generator of either kind saw."""

    per_s: float
    mean_ms: float
    p50_ms: float
    p99_ms: float


def _ask_twice(
    server: Running,
    way: HttpWay | ProtocolWay,
    images: Images,
    requests: int,
    clients: int,
    timeout_s: float,
) -> tuple[_Asked, float]:
    """What was seen, and the processor time in seconds that it took the server.

    A load that hangs is tried once more: perf_analyzer does so now and then.
    """
    for tries_left in (1, 0):
        before = cpu_seconds(server.pid)
        try:
            asked = _ask(server, way, images, requests, clients, timeout_s)
        except LoadTimedOut:
            if not tries_left:
                raise
        else:
            return asked, cpu_seconds(server.pid) - before
    raise AssertionError("the last try returns or raises")


def _ask(
    server: Running,
    way: HttpWay | ProtocolWay,
    images: Images,
    requests: int,
    clients: int,
    timeout_s: float,
) -> _Asked:
    if isinstance(way, HttpWay):
        report = http_load.closed_loop(
            target(server, way),
            way.bodies(images),
            requests=requests,
            clients=clients,
            timeout_s=timeout_s,
        )
        if report.answered < requests:
            raise LoadFailed(f"not all of {requests} requests were answered: {report.statuses}")
        return _Asked(report.answered_per_s, report.mean_ms, report.p50_ms, report.p99_ms)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.json"
        write_input_data(images, data, "image", batched=way.batched)
        port = server.grpc_port if way.protocol == "grpc" else server.port
        measured = perf_analyzer.measure(
            f"127.0.0.1:{port}",
            way.model,
            way.protocol,
            ["--input-data", str(data), *way.flags],
            requests=requests,
            clients=clients,
            timeout_s=timeout_s,
        )
    return _Asked(measured.requests_per_s, measured.mean_ms, measured.p50_ms, measured.p99_ms)


def open_(
    server: Running,
    way: HttpWay,
    images: Images,
    *,
    requests_per_s: float,
    duration_s: float,
    objective_ms: float,
) -> HttpReport:
    """Load from many independent users; see `benchmarks.http_load`."""
    return http_load.open_loop(
        target(server, way),
        way.bodies(images),
        requests_per_s=requests_per_s,
        duration_s=duration_s,
        objective_ms=objective_ms,
    )


def target(server: Running, way: HttpWay) -> Target:
    """Where a way leads on a running server."""
    return Target(server.port, way.path, dict(way.headers))


@dataclass(frozen=True)
class Counted:
    """What this server counted of images so far."""

    images: float
    experts: float

    def mean_experts_since(self, before: Counted) -> float:
        """Experts an image between two counts; NaN if there was none."""
        images = self.images - before.images
        return (self.experts - before.experts) / images if images else float("nan")


def counted(server: Running) -> Counted:
    """Read this server's own metrics."""
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return parse_counted(answer.read().decode())


def parse_counted(metrics: str) -> Counted:
    """Images and experts in the text of `/metrics`.

    Raises:
        LoadFailed: if they are not there.
    """
    values = []
    for suffix in ("count", "sum"):
        found = re.search(rf"^ride_experts_per_image_{suffix} (\S+)$", metrics, re.MULTILINE)
        if found is None:
            raise LoadFailed("the server's metrics do not tell the experts of an image")
        values.append(float(found[1]))
    return Counted(*values)
