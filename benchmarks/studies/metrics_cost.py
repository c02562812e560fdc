"""What metrics and the audit cost the server.

    python -m benchmarks.studies.metrics_cost
    python -m benchmarks.studies.metrics_cost --seconds 3 --rounds 1

Three questions, answered on the bundled model with PNG files of the test images:

1. Metrics: the processor time of all that is counted of a request with one image, as a share of
   what the server spends on it. The first is measured here, on one thread, with the answers that
   these images get; the second of a server under full load.
2. `/metrics` under that load: how long a scrape takes in OpenMetrics.
3. The audit: latency and processor time of two servers, one with `--audit-share=0.01` and one with
   0, in turns, at half of what the server can do, where audits have room. Requests come at random
   moments, so latencies hold the wait as well.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks import drive
from benchmarks.flags import seconds
from benchmarks.images import Images, read_images
from benchmarks.process import cpu_seconds
from benchmarks.servers.ride import PNG_WAY, WAYS, with_flags
from benchmarks.servers.server import CHECKOUT, Contender, Running, running
from serving.engine.graphs import Engine, load_engine
from serving.engine.scheduler import BatchReport
from serving.metrics.drift import DriftWatch, expected_go_on
from serving.metrics.registry import StageMetrics
from serving.model.routing import Routed

CLIENTS = 32
SCRAPE_EVERY_S = 0.2
SHARES = (0.0, 0.01)
_REPOSITORY = CHECKOUT / "model_repository"
_OBJECTIVE_MS = 1_000.0
_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
_PATIENT = "--latency-objective-ms=600000"  # no answer is made cheaper
_PNG = next(way for way in WAYS if way.name == "ride-png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    for line in lines(options.seconds, options.rounds):
        print(line, flush=True)


def lines(seconds: float, rounds: int) -> Iterator[str]:
    """The report, line by line; each load lasts about `seconds`."""
    images = read_images()
    counting_ms = 1e3 * counting_seconds(load_engine(_REPOSITORY), images)
    with _serving(_PNG, _PATIENT) as server:
        scrapes: list[float] = []
        with _scraping(server, scrapes):
            point = drive.closed(server, PNG_WAY, images, clients=CLIENTS, duration_s=seconds)
    share = counting_ms / point.cpu_ms_per_image
    p50, p99 = np.percentile(scrapes, [50, 99])
    yield f"full load: {point.images_per_s:.0f} images/s, p99 {point.p99_ms:.1f} ms"
    yield f"processor time of an image: {point.cpu_ms_per_image:.3f} ms"
    yield f"of that, metrics: {1e3 * counting_ms:.1f} us, {share:.1%}"
    yield (
        f"/metrics under this load: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"max {max(scrapes):.1f} ms of {len(scrapes)}"
    )
    rate = point.images_per_s / 2
    yield f"audit, {rate:.0f} images/s:"
    for turn in range(1, rounds + 1):
        for audit_share in SHARES:
            yield f"  round {turn}, share {audit_share:g}: " + audited(
                audit_share, images, rate, seconds
            )


def counting_seconds(engine: Engine, images: Images, repeats: int = 3) -> float:
    """Processor time of all that is counted of a request with one image, on average."""
    routed, manifest = engine.classify(images.pixels, engine.rule()), engine.manifest
    answers = [
        Routed(
            routed.probabilities[row : row + 1],
            routed.experts_used[row : row + 1],
            routed.router_scores[row : row + 1],
        )
        for row in range(len(images))
    ]
    nobody = Routed(
        np.empty((0, manifest.num_classes), dtype=np.float32),
        np.empty(0, dtype=np.int32),
        np.empty((0, manifest.num_experts - 1), dtype=np.float32),
    )
    metrics = StageMetrics(CollectorRegistry())
    metrics.serve({engine.version: manifest})
    watch = DriftWatch(expected_go_on(manifest), manifest.num_experts)
    waited = np.array([0.001])
    least = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        for answer in answers:
            used = int(answer.experts_used[0])
            for stage in range(1, used + 1):
                done = answer if stage == used else nobody
                report = BatchReport(stage, 1, waited, 0.001, done)
                metrics.observe_batch(report, manifest.multiply_adds, engine.version, 0.002)
            metrics.observe_decoding(0.001)
            metrics.observe_own_rule(answer.experts_used)
            watch.observe(answer.experts_used)
            metrics.observe_request("http", "200", 0.003)
        metrics.add_up()
        least = min(least, time.thread_time() - began)
    return least / len(answers)


def audited(share: float, images: Images, rate: float, seconds: float) -> str:
    """What a server with this audit share does at a rate (requests a second)."""
    with _serving(_PNG, _PATIENT, f"--audit-share={share}") as server:
        drive.closed(server, PNG_WAY, images, clients=4, duration_s=1)  # warm
        before = cpu_seconds(server.pid)
        report = drive.open_(
            server,
            PNG_WAY,
            images,
            requests_per_s=rate,
            duration_s=seconds,
            objective_ms=_OBJECTIVE_MS,
        )
        cpu_s = cpu_seconds(server.pid) - before
        drawn, audited_images = (
            _counter(server, f"ride_audit_{name}_total") for name in ("sampled", "images")
        )
    return (
        f"p50 {report.p50_ms:.1f} ms, p99 {report.p99_ms:.1f} ms, "
        f"{1e3 * cpu_s / report.answered:.3f} ms of processor time an image; "
        f"{audited_images:.0f} of {drawn:.0f} drawn were audited"
    )


@contextmanager
def _serving(contender: Contender, *flags: str) -> Iterator[Running]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            with_flags(contender, *flags), Path(sys.executable), _REPOSITORY, Path(folder) / "run"
        ) as server,
    ):
        yield server


@contextmanager
def _scraping(server: Running, times_ms: list[float]) -> Iterator[None]:
    """Scrape for the length of the block, as Prometheus would, only far more often."""
    stop = threading.Event()

    def scrape() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        while not stop.wait(SCRAPE_EVERY_S):
            began = time.perf_counter()
            connection.request("GET", "/metrics", headers=_OPENMETRICS)
            connection.getresponse().read()
            times_ms.append(1e3 * (time.perf_counter() - began))
        connection.close()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _metrics(server: Running) -> str:
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def _counter(server: Running, name: str) -> float:
    """A counter's value, summed over its labels."""
    rows = (line.rsplit(" ", 1) for line in _metrics(server).splitlines())
    return sum(float(value) for series, value in rows if series.partition("{")[0] == name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=seconds, default=20.0, help="for each load (default: 20)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of both audit shares in turns (default: 3)"
    )
    return parser


if __name__ == "__main__":
    main()
