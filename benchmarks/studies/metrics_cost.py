"""The study `metrics-cost`: what is counted, scraped and audited takes of the server's time."""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import numpy as np

from benchmarks import drive
from benchmarks.checkout import BUNDLED
from benchmarks.flags import Rounds, Seconds
from benchmarks.http_load import OpenLoop, load_http
from benchmarks.images import SampleImages, read_images
from benchmarks.process import cpu_seconds
from benchmarks.servers.ride import PATIENT, PNG, PNG_WAY, with_flags
from benchmarks.servers.server import Running, running
from serving.dataplane.metrics import EmbeddedMetrics
from serving.engine.graphs import Engine, load_engine
from serving.engine.reports import BatchReport
from serving.metrics.drift import DriftWatch, expected_go_on
from serving.model.routing import Routed

CLIENTS = 32
SCRAPE_EVERY_S = 0.2
SHARES = (0.0, 0.01)
COUNTED = 1_024
"""Images; a multiple of the notes that are added up at once, so that none is left over."""
_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def metrics_cost(seconds: Seconds = 20.0, rounds: Rounds = 3) -> Iterator[str]:
    """What do metrics and the audit cost the server?

    Three questions, answered on the bundled model with PNG files of the test images.

    Metrics: the processor time of all that is counted of a request with one image, as a share of
    what the server spends on it. The first is measured here, on one thread, with the answers that
    these images get; the second of a server under full load.

    /metrics under that load: how long a scrape takes in OpenMetrics.

    The audit: latency and processor time of two servers, one with --audit-share=0.01 and one with
    0, in turns, at half of what the server can do, where audits have room. Requests come at random
    moments, so latencies hold the wait as well.
    """
    return cost_lines(read_images(), seconds, rounds)


def cost_lines(images: SampleImages, seconds: float, rounds: int) -> Iterator[str]:
    """The report, line by line; each load lasts about `seconds`."""
    counting_ms = 1e3 * counting_seconds(load_engine(BUNDLED), images, EmbeddedMetrics())
    with running(with_flags(PNG, PATIENT), BUNDLED) as server, _scraping(server) as scrapes:
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
            figures = _audited(audit_share, images, rate, seconds)
            yield f"  round {turn}, share {audit_share:g}: {figures}"


def counting_seconds(
    engine: Engine, images: SampleImages, metrics: EmbeddedMetrics, repeats: int = 3
) -> float:
    """Processor time of all that is counted of a request with one image, on average."""
    routed, manifest = engine.classify(images.pixels, engine.rule()), engine.manifest

    def answer_of(rows: slice) -> Routed:
        return Routed(
            routed.probabilities[rows], routed.experts_used[rows], routed.router_scores[rows]
        )

    answers = [answer_of(slice(row, row + 1)) for row in range(len(images))]
    nobody = answer_of(slice(0))
    metrics.answers.serve({engine.version: manifest})
    watch = DriftWatch(expected_go_on(manifest), manifest.num_experts)
    waited = np.array([0.001])
    least = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        for answer in islice(cycle(answers), COUNTED):
            used = int(answer.experts_used[0])
            for stage in range(1, used + 1):
                metrics.stages.observe_batch(BatchReport(stage, 1, waited, 0.001, nobody), 0.002)
            metrics.answers.observe(answer, manifest.multiply_adds, engine.version)
            metrics.stages.observe_decoding(0.001)
            metrics.answers.observe_own_rule(answer.experts_used)
            watch.observe(answer.experts_used)
            metrics.requests.observe("http", "200", 0.003)
        least = min(least, time.thread_time() - began)
    return least / COUNTED


def _audited(share: float, images: SampleImages, rate: float, seconds: float) -> str:
    """What a server with this audit share does at a rate (requests a second)."""
    with running(with_flags(PNG, PATIENT, f"--audit-share={share}"), BUNDLED) as server:
        drive.closed(server, PNG_WAY, images, clients=4, duration_s=min(1, seconds))  # warm
        before = cpu_seconds(server.pid)
        loop = OpenLoop(rate, seconds, objective_ms=math.inf)
        report = load_http(PNG_WAY.endpoint(server), PNG_WAY.bodies(images), loop)
        cpu_s, metrics = cpu_seconds(server.pid) - before, drive.metrics(server)
    return (
        f"p50 {report.p50_ms:.1f} ms, p99 {report.p99_ms:.1f} ms, "
        f"{1e3 * cpu_s / report.answered:.3f} ms of processor time an image; "
        f"{metrics['ride_audit_images_total']:.0f} of "
        f"{metrics['ride_audit_sampled_total']:.0f} drawn were audited"
    )


@contextmanager
def _scraping(server: Running) -> Iterator[list[float]]:
    """Scrape for the length of the block, as Prometheus would, only far more often.

    Yields the times in ms that scrapes took so far.
    """
    times_ms: list[float] = []
    stop = threading.Event()

    def scrape() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        ended = False
        while not ended:
            began = time.perf_counter()
            connection.request("GET", "/metrics", headers=_OPENMETRICS)
            connection.getresponse().read()
            times_ms.append(1e3 * (time.perf_counter() - began))
            ended = stop.wait(SCRAPE_EVERY_S)
        connection.close()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield times_ms
    finally:
        stop.set()
        thread.join()
