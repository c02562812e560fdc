"""A load generator for HTTP: any path, a new body in every request, closed or open loop.

perf_analyzer speaks the Open Inference Protocol only and stops at the first error; this one posts
image files too, and counts refusals. It runs in a process of its own, so that its processor time
is not the server's. Two ways to ask:

- closed: `clients` connections, each asks again as soon as it is answered;
- open: requests are due at random moments (a Poisson process of a given rate, seeded), whether or
  not the server keeps up, as from many independent users. Latency counts from the moment that a
  request was due, so that waiting for a free connection counts too.
"""

from __future__ import annotations

import asyncio
import collections
import math
import random
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools
import numpy as np
import uvloop

from benchmarks.program import in_own_process

_REFUSED = (429, 503)
_GRACE_S = 30
_MOST_CONNECTIONS = 4_000


@dataclass(frozen=True)
class Endpoint:
    """Where requests go: `http://127.0.0.1:port` + path, and the headers that they carry."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClosedLoop:
    """`clients` connections send `requests` requests, each one after the other."""

    requests: int
    clients: int
    timeout_s: float = 300


@dataclass(frozen=True)
class OpenLoop:
    """Requests at random moments for `duration_s`; answers within `objective_ms` are counted."""

    requests_per_s: float
    duration_s: float
    objective_ms: float

    @property
    def timeout_s(self) -> float:
        """With time for the last answers, and for a process to start."""
        return self.duration_s + _GRACE_S + 30


@dataclass(frozen=True)
class HttpReport:
    """What was measured.

    Attributes:
        offered_per_s: requests a second that were due (open loop) or sent (closed).
        answered: answers with status 200.
        refused: answers with status 429 or 503.
        failed: other answers, broken connections and requests never answered.
        answered_per_s: answers with status 200 a second.
        within_objective_per_s: of them, those that came within the objective.
        mean_ms: of the answered.
        p50_ms: half of the answered took at most this.
        p90_ms: and 90 % this.
        p99_ms: and 99 % this.
        generator_cpu_s: processor time of the load generator itself.
        statuses: how many answers had each status; -1 where none came.
    """

    offered_per_s: float
    answered: int
    refused: int
    failed: int
    answered_per_s: float
    within_objective_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    generator_cpu_s: float
    statuses: dict[str, int]

    @property
    def requests_per_s(self) -> float:
        """As perf_analyzer calls what was answered."""
        return self.answered_per_s


def load_http(
    endpoint: Endpoint, bodies: Sequence[bytes], loop: ClosedLoop | OpenLoop
) -> HttpReport:
    """Send bodies in turn, in a process of its own.

    Raises:
        LoadFailed: if the generator ended with an error or took too long.
    """
    failed, timeout_s = "the HTTP load generator failed", loop.timeout_s
    return in_own_process(_generate, endpoint, bodies, loop, failed=failed, timeout_s=timeout_s)


def allow_many_files() -> None:
    """Raise this process's limit of open files, and of those it starts, as far as is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a whole request; the future is its answer's status, -1 if none came."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close()

    def on_message_complete(self) -> None:
        self._answer(self._parser.get_status_code())
        if not self._parser.should_keep_alive():
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        self._close()

    def _close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()
        self._answer(-1)

    def _answer(self, status: int) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)


class _Generator:
    """Sends requests and keeps what came of each."""

    def __init__(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> None:
        self._port = endpoint.port
        head = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
        self._requests = [
            f"POST {endpoint.path} HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in bodies
        ]
        self.statuses: collections.Counter[int] = collections.Counter()
        self.latencies_s: list[float] = []
        self._idle: list[_Connection] = []

    async def closed(self, requests: int, clients: int) -> int:
        """Returns how many requests were due: all."""
        numbers = iter(range(requests))

        async def client() -> None:
            for number in numbers:
                await self._one(number, time.perf_counter())

        await asyncio.gather(*(client() for _ in range(clients)))
        return requests

    async def open(self, rate: float, duration_s: float) -> int:
        """Returns how many requests were due."""
        moments, number = random.Random(0), 0  # noqa: S311 a load, no secret
        start = due = time.perf_counter()
        under_way: set[asyncio.Task[None]] = set()

        while (due := due + moments.expovariate(rate)) < start + duration_s:
            if (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            number += 1
            if len(under_way) >= _MOST_CONNECTIONS:
                self.statuses[-1] += 1
                continue
            task = asyncio.create_task(self._one(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=_GRACE_S)
            self.statuses[-1] += len(late)
            for task in late:
                task.cancel()
        return number

    async def _one(self, number: int, start: float) -> None:
        try:
            connection = await self._connection()
        except OSError:
            self.statuses[-1] += 1
            await asyncio.sleep(0.01)  # nobody listens: don't spin
            return
        status = await connection.ask(self._requests[number % len(self._requests)])
        self.statuses[status] += 1
        if status == 200:
            self.latencies_s.append(time.perf_counter() - start)
        if not connection.closed:
            self._idle.append(connection)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


def _generate(
    endpoint: Endpoint, bodies: Sequence[bytes], loop: ClosedLoop | OpenLoop
) -> HttpReport:
    allow_many_files()
    generator = _Generator(endpoint, bodies)
    cpu, start = time.process_time(), time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if isinstance(loop, OpenLoop):
            due = runner.run(generator.open(loop.requests_per_s, loop.duration_s))
        else:
            due = runner.run(generator.closed(loop.requests, loop.clients))
    elapsed = time.perf_counter() - start  # answers may come after the last request
    asked, objective_ms = elapsed, math.inf
    if isinstance(loop, OpenLoop):
        asked, objective_ms = loop.duration_s, loop.objective_ms
    latencies_ms = np.array(generator.latencies_s or [0.0]) * 1e3
    p50, p90, p99 = (float(value) for value in np.percentile(latencies_ms, [50, 90, 99]))
    answered = generator.statuses[200]
    refused = sum(generator.statuses[status] for status in _REFUSED)
    good = int((latencies_ms <= objective_ms).sum()) if answered else 0
    return HttpReport(
        offered_per_s=due / asked,
        answered=answered,
        refused=refused,
        failed=sum(generator.statuses.values()) - answered - refused,
        answered_per_s=answered / elapsed,
        within_objective_per_s=good / asked,
        mean_ms=float(latencies_ms.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        generator_cpu_s=time.process_time() - cpu,
        statuses={str(status): count for status, count in generator.statuses.items()},
    )
