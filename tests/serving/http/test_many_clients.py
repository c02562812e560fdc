"""Many clients at once: a busy server says so, and bad clients cost good ones nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from serving.engine.graphs import Engine
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.serving.http.requests import (
    INFER,
    Pixels,
    as_files,
    assert_answers,
    assert_refused,
    infer_request,
)


def test_a_busy_server_asks_to_come_back(
    strict_server: RunningServer, png: Callable[[Pixels], bytes], pictures: tuple[bytes, ...]
) -> None:
    slow = as_files([png(np.zeros((3_000, 3_000, 3), dtype=np.uint8))] * 3)
    start = threading.Barrier(6)

    def post() -> httpx.Response:
        start.wait()
        return strict_server.post(CLASSIFY, files=slow)

    with ThreadPoolExecutor(6) as clients:
        responses = [future.result() for future in [clients.submit(post) for _ in range(6)]]
    assert {response.status_code for response in responses} == {200, 503}
    for response in responses:
        if response.status_code == 503:
            assert_refused(response, 503, "the server is busy; try again")
            assert int(response.headers["retry-after"]) > 0
    assert_answers(strict_server, pictures[0])


def test_good_clients_are_answered_among_bad_ones(
    server: RunningServer, engine: Engine, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    count = 50
    expected = engine.classify(pixels, engine.rule()).probabilities.argmax(axis=1)
    start = threading.Barrier(count)

    def upload(i: int) -> None:
        three = [i % 48, (i + 1) % 48, (i + 2) % 48]
        response = server.post(CLASSIFY, files=as_files([pictures[row] for row in three]))
        best = [result["labels"][0]["index"] for result in response.json()["results"]]
        assert best == expected[three].tolist()

    def send_tensor(i: int) -> None:
        row = i % 48
        response = server.post(INFER, json=infer_request(data=pixels[row].ravel().tolist()))
        assert np.argmax(response.json()["outputs"][0]["data"]) == expected[row]

    def send_garbage(i: int) -> None:
        assert_refused(server.post(CLASSIFY, content=bytes([i]) * 1_000), 400)

    def hang_up(i: int) -> None:
        with server.connect() as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n")
            connection.sendall(b"Content-Length: 1000\r\n\r\n" + pictures[0][:100])

    def hang_up_before_the_answer(i: int) -> None:
        with server.connect() as connection:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(pictures[0])}"
            connection.sendall(head.encode() + b"\r\n\r\n" + pictures[0])

    kinds = (upload, send_tensor, send_garbage, hang_up, hang_up_before_the_answer)

    def act(i: int) -> None:
        start.wait()
        kinds[i % len(kinds)](i)

    with ThreadPoolExecutor(count) as clients:
        for future in [clients.submit(act, i) for i in range(count)]:
            future.result()
    assert_answers(server, pictures[0])
