"""Answers a stream of requests: several under way at a time, the answers in the requests' order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Stopped(Exception):
    """A stream of requests that was not read to its end."""


async def in_order(
    requests: AsyncIterable[Request],
    answer: Callable[[Request], Coroutine[None, None, Answer]],
    most: int,
    stop: asyncio.Event,
) -> AsyncGenerator[Answer, None]:
    """The answer of each request, in the order in which the requests came.

    At most `most` requests are read whose answers were not taken yet; what is not read makes the
    sender wait. Once `stop` is set nothing more is read, and the answers end with those of the
    requests that were. When this generator is closed, work under way is cancelled.

    Raises:
        Stopped: after the last answer, if `stop` was set before all requests were read.
        What `requests` or `answer` raises.
    """
    room = asyncio.Semaphore(most)
    answers: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    under_way: set[asyncio.Task[Answer]] = set()

    async def start() -> None:
        await room.acquire()
        async for request in requests:
            task = asyncio.create_task(answer(request))
            under_way.add(task)
            answers.put_nowait(task)
            await room.acquire()

    reader = asyncio.create_task(start())
    reader.add_done_callback(lambda _: answers.put_nowait(None))
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: reader.cancel())
    try:
        while (task := await answers.get()) is not None:
            yield await task
            under_way.discard(task)
            room.release()
        if reader.cancelled():
            raise Stopped
        await reader  # raises what broke the stream off
    finally:
        for each in (stopping, reader, *under_way):
            each.cancel()
        await asyncio.gather(stopping, reader, *under_way, return_exceptions=True)
