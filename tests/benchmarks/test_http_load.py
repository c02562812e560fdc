"""The HTTP load generator, against a small server that answers as the body says."""

from __future__ import annotations

import collections
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.errors import LoadTimedOut
from benchmarks.http_load import ClosedLoop, Endpoint, OpenLoop, load_http

SLOW_S = 0.2


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: collections.Counter[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies[body] += 1
        if body == b"slow":
            time.sleep(SLOW_S)
        self.send_response(int(body) if body.isdigit() else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def bodies() -> collections.Counter[bytes]:
    return collections.Counter()


@pytest.fixture
def endpoint(bodies: collections.Counter[bytes]) -> Iterator[Endpoint]:
    handler = type("Handler", (Answering,), {"bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Endpoint(server.server_port, "/path", {"X-Test": "1"})
        server.shutdown()


def test_clients_send_each_body_in_turn(
    endpoint: Endpoint, bodies: collections.Counter[bytes]
) -> None:
    report = load_http(endpoint, [b"a", b"b", b"c"], ClosedLoop(requests=30, clients=4))
    assert (report.answered, report.refused, report.failed) == (30, 0, 0)
    assert bodies == {b"a": 10, b"b": 10, b"c": 10}
    assert 0 < report.p50_ms <= report.p90_ms <= report.p99_ms
    assert report.answered_per_s > 0


def test_refusals_and_failures_are_told_apart(endpoint: Endpoint) -> None:
    report = load_http(
        endpoint, [b"200", b"503", b"429", b"500"], ClosedLoop(requests=20, clients=2)
    )
    assert (report.answered, report.refused, report.failed) == (5, 10, 5)
    assert report.statuses == {"200": 5, "503": 5, "429": 5, "500": 5}


def test_nobody_listening_is_a_failure_and_not_an_endless_wait() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = Endpoint(unused.getsockname()[1], "/")
        report = load_http(endpoint, [b"a"], ClosedLoop(requests=5, clients=2, timeout_s=60))
    assert (report.answered, report.failed) == (0, 5)


def test_a_load_that_hangs_is_ended(endpoint: Endpoint) -> None:
    with pytest.raises(LoadTimedOut, match="took more than 1 s"):
        load_http(endpoint, [b"slow"], ClosedLoop(requests=1_000, clients=1, timeout_s=1))


def test_an_open_loop_does_not_wait_for_answers(endpoint: Endpoint) -> None:
    report = load_http(
        endpoint, [b"slow"], OpenLoop(requests_per_s=50, duration_s=1, objective_ms=1)
    )
    assert 20 < report.answered < 90  # Poisson with a mean of 50
    assert report.offered_per_s == report.answered
    assert report.p50_ms >= SLOW_S * 1e3
    assert report.within_objective_per_s == 0


def test_answers_within_the_objective_count(endpoint: Endpoint) -> None:
    report = load_http(
        endpoint, [b"a"], OpenLoop(requests_per_s=50, duration_s=1, objective_ms=60_000)
    )
    assert report.within_objective_per_s == report.answered > 0
