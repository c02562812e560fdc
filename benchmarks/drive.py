"""One point of a table: load on a running server, and what it cost the server."""

from __future__ import annotations

import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import LoadFailed, LoadTimedOut
from benchmarks.http_load import ClosedLoop, HttpReport, load_http
from benchmarks.images import SampleImages, write_input_data
from benchmarks.perf_analyzer import PerfReport, run_perf_analyzer
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
    images: SampleImages,
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
    load = _Load(server, way, images, clients)
    if trial is None:
        trial = min(_TRIAL_REQUESTS, len(images))
    asked, _ = load.with_cost(trial, _TRIAL_TIMEOUT_S)
    if requests is None:
        enough = max(asked.requests_per_s * duration_s, _LEAST_REQUESTS_A_CLIENT * clients)
        requests = min(_MOST_REQUESTS, images.passes(enough))
    asked, cpu_s = load.with_cost(requests, _TIMEOUT_S + _SLOWEST * requests / asked.requests_per_s)
    return Point(
        clients=clients,
        images=requests,
        images_per_s=asked.requests_per_s,
        mean_ms=asked.mean_ms,
        p50_ms=asked.p50_ms,
        p99_ms=asked.p99_ms,
        cpu_ms_per_image=cpu_s / requests * 1e3,
        resident_mib=resident_bytes(server.pid) / 2**20,
    )


@dataclass(frozen=True)
class _Load:
    """Clients of a server."""

    server: Running
    way: HttpWay | ProtocolWay
    images: SampleImages
    clients: int

    def with_cost(self, requests: int, timeout_s: float) -> tuple[PerfReport | HttpReport, float]:
        """What was seen, and the processor time in seconds that it took the server.

        A load that hangs is tried once more: perf_analyzer does so now and then.
        """
        before = cpu_seconds(self.server.pid)
        try:
            asked = self._ask(requests, timeout_s)
        except LoadTimedOut:
            before = cpu_seconds(self.server.pid)
            asked = self._ask(requests, timeout_s)
        return asked, cpu_seconds(self.server.pid) - before

    def _ask(self, requests: int, timeout_s: float) -> PerfReport | HttpReport:
        if isinstance(self.way, HttpWay):
            loop = ClosedLoop(requests, self.clients, timeout_s)
            report = load_http(self.way.endpoint(self.server), self.way.bodies(self.images), loop)
            if report.answered < requests:
                raise LoadFailed(f"not all of {requests} requests were answered: {report.statuses}")
            return report
        model, protocol = self.way.model, self.way.protocol
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "images.json"
            write_input_data(self.images, data, batched=self.way.batched)
            port = self.server.grpc_port if protocol == "grpc" else self.server.port
            flags = ["--input-data", str(data), *self.way.flags]
            address = f"127.0.0.1:{port}"
            return run_perf_analyzer(
                address,
                model,
                protocol,
                flags,
                requests=requests,
                clients=self.clients,
                timeout_s=timeout_s,
            )


def metrics(server: Running) -> Mapping[str, float]:
    """This server's own metrics: each sample's name and its sum over all labels; 0 for others."""
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    totals: defaultdict[str, float] = defaultdict(float)
    for sample in (sample for family in families for sample in family.samples):
        totals[sample.name] += sample.value
    return totals


def mean_experts(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Experts of an image between two readings of this server's metrics; None if there was none."""
    images, experts = (
        after[name] - before[name]
        for name in ("ride_experts_per_image_count", "ride_experts_per_image_sum")
    )
    return experts / images if images else None
