"""Bounds on bodies: in memory for the exact edges, over sockets for what clients do."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from serving.errors import Overloaded, RequestTimeout, RequestTooLarge
from serving.http.body_limit import BodyLimit
from tests.running.server import RunningServer

MEBIBYTE = 2**20


async def read_body(
    chunks: Sequence[Message], *, limit: int = 100, timeout_s: float = 10, announced: str = ""
) -> bytes:
    """What an application behind the limit reads of a body that comes in chunks."""
    bodies = []
    arriving: AsyncIterator[Message] = _arrive(chunks)

    async def receive() -> Message:
        return await anext(arriving)

    async def application(scope: Scope, receive: Receive, _: Send) -> None:
        bodies.append(await Request(scope, receive).body())

    async def send(_: Message) -> None:
        raise AssertionError("nothing is answered here")

    headers = [(b"content-length", announced.encode())] if announced else []
    scope = {"type": "http", "method": "POST", "headers": headers}
    bounded = BodyLimit(
        application, max_bytes=limit, max_total_bytes=10 * limit, timeout_s=timeout_s
    )
    await bounded(scope, receive, send)
    return bodies[0]


async def _arrive(chunks: Sequence[Message]) -> AsyncIterator[Message]:
    for chunk in chunks:
        await asyncio.sleep(chunk.get("after_s", 0))
        yield chunk
    await asyncio.sleep(3_600)


def body(*sizes: int, after_s: float = 0) -> list[Message]:
    last = len(sizes) - 1
    return [
        {"type": "http.request", "body": b"x" * size, "more_body": i < last, "after_s": after_s}
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [(0,), (100,), (50, 50), (99, 1, 0), (1,) * 100])
def test_a_body_up_to_the_limit_is_read_whole(sizes: tuple[int, ...]) -> None:
    assert asyncio.run(read_body(body(*sizes))) == b"x" * sum(sizes)


@pytest.mark.parametrize("sizes", [(101,), (50, 51), (1,) * 101])
def test_one_byte_more_is_too_much(sizes: tuple[int, ...]) -> None:
    with pytest.raises(RequestTooLarge, match="larger than 100 bytes"):
        asyncio.run(read_body(body(*sizes)))


def test_an_announced_body_is_refused_before_it_comes() -> None:
    with pytest.raises(RequestTooLarge):
        asyncio.run(read_body([], announced="101"))
    assert asyncio.run(read_body(body(100), announced="100")) == b"x" * 100


def test_the_whole_body_shares_one_deadline() -> None:
    with pytest.raises(RequestTimeout, match="did not arrive in time"):
        asyncio.run(read_body(body(*[1] * 10, after_s=0.05), timeout_s=0.2))


def test_hanging_up_is_passed_on() -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_body([{"type": "http.disconnect"}]))


def test_all_bodies_together_are_bounded_and_let_go_of() -> None:
    async def read_whole(scope: Scope, receive: Receive, _: Send) -> None:
        await Request(scope, receive).body()
        await asyncio.sleep(0.2)  # the work that the body is for

    async def ignore(_: Message) -> None:
        raise AssertionError("nothing is answered here")

    async def run() -> list[BaseException | None]:
        limit = BodyLimit(read_whole, max_bytes=100, max_total_bytes=250, timeout_s=5)
        scope = {"type": "http", "method": "POST", "headers": []}

        async def send_body() -> None:
            arriving = _arrive(body(50, 50))
            await limit(scope, lambda: anext(arriving), ignore)

        together = await asyncio.gather(*(send_body() for _ in range(3)), return_exceptions=True)
        assert limit.held_bytes == 0
        await send_body()
        return together

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes].count(Overloaded) == 1
    assert outcomes.count(None) == 2


def test_compressed_bodies_count_for_what_they_become() -> None:
    """Not for what they might: all together hold no more than four of the largest."""

    async def ignore(_: Message) -> None:
        raise AssertionError("nothing is answered here")

    async def run() -> list[bytes]:
        bodies = []

        async def read_whole(scope: Scope, receive: Receive, _: Send) -> None:
            bodies.append(await Request(scope, receive).body())

        limit = BodyLimit(read_whole, max_bytes=500, max_total_bytes=2_000, timeout_s=5)
        headers = [(b"content-encoding", b"deflate")]
        scope = {"type": "http", "method": "POST", "headers": headers}

        async def send_body() -> None:
            content = zlib.compress(b"x" * 40)
            arriving = _arrive([{"type": "http.request", "body": content}])
            await limit(scope, lambda: anext(arriving), ignore)

        await asyncio.gather(*(send_body() for _ in range(20)))
        assert limit.held_bytes == 0
        return bodies

    assert asyncio.run(run()) == [b"x" * 40] * 20


def assert_still_answers(server: RunningServer, picture: bytes) -> None:
    assert server.post("/v1/classify", content=picture).status_code == 200


def test_a_huge_body_is_refused_by_its_announced_size_alone(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    with strict_server.connect() as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(4_096).startswith(b"HTTP/1.1 413 ")
    assert_still_answers(strict_server, pictures[0])


def test_a_huge_body_without_an_announced_size_is_refused(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * (MEBIBYTE // 16)

    for path in ("/v1/classify", "/v2/models/ride/infer"):
        response = strict_server.post(path, content=endless())
        assert response.status_code == 413
        assert response.json() == {"error": "the body is larger than 1048576 bytes"}
    assert_still_answers(strict_server, pictures[0])


def test_a_huge_form_is_refused(strict_server: RunningServer, pictures: tuple[bytes, ...]) -> None:
    response = strict_server.post("/v1/classify", files={"file": b"\0" * 2 * MEBIBYTE})
    assert response.status_code == 413
    assert_still_answers(strict_server, pictures[0])


def test_a_body_that_never_ends_is_given_up_and_the_connection_closed(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    start = time.monotonic()
    with strict_server.connect() as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        answer = b"".join(iter(lambda: connection.recv(4_096), b""))
    assert 0.9 < time.monotonic() - start < 15
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(content) == {"error": "the request's body did not arrive in time"}
    assert_still_answers(strict_server, pictures[0])


def test_the_deadline_is_for_the_body_not_for_the_connection(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    with httpx.Client(base_url=strict_server.url, timeout=60) as client:
        assert client.post("/v1/classify", content=pictures[0]).status_code == 200
        time.sleep(1.1)
        assert client.post("/v1/classify", content=pictures[0]).status_code == 200
