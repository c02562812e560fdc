"""Triton servers that die under load, and come back: what the clients of the front notice.

Embedded servers stand for Triton: their gRPC is the same, and they can be killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import free_ports
from tests.running.load import CLASSIFY, Load
from tests.running.server import RunningServer, running_server
from tests.running.waiting import WAIT_S, wait_until

DEADLINE_S = 10.0
"""Of requests to Triton, by default."""

Start = Callable[..., AbstractContextManager[RunningServer]]


@pytest.fixture(scope="module")
def port() -> int:
    """A free one, for servers that come back where they were."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def start_victim(repository: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a server that a test may kill."""

    def start() -> AbstractContextManager[RunningServer]:
        log = tmp_path_factory.mktemp("victim") / "log.txt"
        return running_server(repository, log, [f"--grpc-port={port}"])

    return start


@pytest.fixture(scope="module")
def start_front(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a server in front of others."""

    @contextmanager
    def start(*addresses: str, ready: bool = True) -> Iterator[RunningServer]:
        log = tmp_path_factory.mktemp("front") / "log.txt"
        flags = [f"--triton={','.join(addresses)}"]
        with running_server(repository, log, flags, ready=ready) as running:
            yield running

    return start


def is_ready(front: RunningServer) -> bool:
    return front.get("/v2/health/ready").is_success


def images(server: RunningServer) -> float:
    return server.samples()["ride_images_total"]


@pytest.fixture(scope="module")
def victim(start_victim: Start) -> Iterator[RunningServer]:
    with start_victim() as running:
        yield running


@pytest.fixture(scope="module")
def pair(
    server: RunningServer, victim: RunningServer, start_front: Start
) -> Iterator[RunningServer]:
    """In front of the shared server, which stays, and of one that tests may kill."""
    with start_front(server.grpc_address, victim.grpc_address) as front:
        yield front


def test_a_server_that_falls_silent_is_noticed_and_no_request_fails(
    pair: RunningServer, victim: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    """Stopped, its connections stay open and nobody answers: pings find out."""
    with Load(pair, content=pictures[0]) as load:
        wait_until(lambda: images(victim) > 20)
        os.kill(victim.process.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: "was lost" in pair.log.read_text())
        finally:
            os.kill(victim.process.pid, signal.SIGCONT)
        load.wait_for(200, 20)
    assert set(load.answers) == {200}  # and not 504, at the deadline


def test_of_two_servers_one_is_killed_under_load_and_no_request_fails(
    pair: RunningServer,
    server: RunningServer,
    victim: RunningServer,
    pictures: tuple[bytes, ...],
) -> None:
    before = [images(each) for each in (server, victim)]
    with Load(pair, content=pictures[0]) as load:
        wait_until(lambda: images(victim) > before[1] + 20)
        assert images(server) > before[0] + 5  # both get their share
        victim.process.kill()
        load.wait_for(200, 100)
    assert set(load.answers) == {200}


def test_the_only_server_is_killed_under_load_and_comes_back(
    start_front: Start, start_victim: Start, port: int, pictures: tuple[bytes, ...]
) -> None:
    """Nobody waits for it: requests are refused at once, and answered as soon as it is back."""
    with start_front(f"127.0.0.1:{port}", ready=False) as front:
        assert front.get("/v2/health/live").is_success
        assert front.post(CLASSIFY, content=pictures[0]).status_code == 503
        with Load(front, content=pictures[0]) as load:
            for _ in range(2):
                with start_victim() as victim:
                    load.wait_for(200, 50)
                    assert is_ready(front)
                    victim.process.kill()
                    load.wait_for(503, 50)
                    assert not is_ready(front)
        assert set(load.answers) == {200, 503}
        assert load.longest_s < DEADLINE_S


def test_requests_under_way_are_answered_before_it_stops(
    start_front: Start, server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    files = [("file", data) for data in pictures * 8]
    with start_front(server.grpc_address) as front, ThreadPoolExecutor(1) as client:
        before = images(server)
        answer = client.submit(front.post, f"{CLASSIFY}?threshold=0", files=files)
        wait_until(lambda: images(server) > before)
        front.process.terminate()
        assert len(answer.result().json()["results"]) == len(files)
        assert front.process.wait(WAIT_S) == 0
