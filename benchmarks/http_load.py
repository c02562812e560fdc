"""A load generator for HTTP: any path, a new body in every request, closed or open loop.

    python -m benchmarks.http_load < load.json        prints what it measured as JSON

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
import base64
import collections
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import httptools
import numpy as np

from benchmarks.errors import LoadFailed, LoadTimedOut

_REFUSED = (429, 503)
_GRACE_S = 30
_MOST_CONNECTIONS = 4_000


@dataclass(frozen=True)
class Target:
    """Where requests go: `http://127.0.0.1:port` + path, and the headers that they carry."""

    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)


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


def closed_loop(
    target: Target,
    bodies: Sequence[bytes],
    *,
    requests: int,
    clients: int,
    timeout_s: float = 300,
) -> HttpReport:
    """`clients` connections send `requests` requests, each one after the other.

    Raises:
        LoadFailed: if the generator ended with an error or took too long.
    """
    return _spawn(target, bodies, {"requests": requests, "clients": clients}, timeout_s)


def open_loop(
    target: Target,
    bodies: Sequence[bytes],
    *,
    requests_per_s: float,
    duration_s: float,
    objective_ms: float,
) -> HttpReport:
    """Requests at random moments for `duration_s`; answers within `objective_ms` are counted.

    Raises:
        LoadFailed: if the generator ended with an error or took too long.
    """
    load = {"rate": requests_per_s, "duration_s": duration_s, "objective_ms": objective_ms}
    return _spawn(target, bodies, load, duration_s + _GRACE_S + 30)


def _spawn(
    target: Target, bodies: Sequence[bytes], load: dict[str, float], timeout_s: float
) -> HttpReport:
    task = {
        "target": asdict(target),
        "bodies": [base64.b64encode(body).decode() for body in bodies],
        **load,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.http_load"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=Path(__file__).resolve().parents[1],
        )
    except subprocess.TimeoutExpired:
        raise LoadTimedOut(f"the load took more than {timeout_s:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise LoadFailed(f"the HTTP load generator failed: {lines[-1]}")
    return HttpReport(**json.loads(done.stdout))


def allow_many_files() -> None:
    """Raise this process's limit of open files, and of those it starts, as far as is allowed."""
    try:
        import resource  # noqa: PLC0415 not on Windows
    except ModuleNotFoundError:
        return
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
            self.close()

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close_quietly()
        self._answer(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        self.closed = True
        self._answer(-1)

    def close_quietly(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        self.close_quietly()
        self._answer(-1)

    def _answer(self, status: int) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)


class _Load:
    """Sends requests and keeps what came of each."""

    def __init__(self, target: Target, bodies: Sequence[bytes]) -> None:
        self._port = target.port
        head = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
        self._requests = [
            f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in bodies
        ]
        self.statuses: collections.Counter[int] = collections.Counter()
        self.latencies_s: list[float] = []
        self._idle: list[_Connection] = []

    async def closed(self, requests: int, clients: int) -> None:
        numbers = iter(range(requests))

        async def client() -> None:
            for number in numbers:
                await self._one(number, time.perf_counter())

        await asyncio.gather(*(client() for _ in range(clients)))

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


async def _run(task: dict[str, Any]) -> HttpReport:
    bodies = [base64.b64decode(body) for body in task["bodies"]]
    load = _Load(Target(**task["target"]), bodies)
    cpu, start = time.process_time(), time.perf_counter()
    if "rate" in task:
        due = await load.open(task["rate"], task["duration_s"])
        seconds = task["duration_s"]
    else:
        due = task["requests"]
        await load.closed(due, task["clients"])
        seconds = time.perf_counter() - start
    elapsed = time.perf_counter() - start  # answers may come after the last request
    latencies_ms = np.array(load.latencies_s) * 1e3
    p50, p90, p99 = (
        np.percentile(latencies_ms, [50, 90, 99]) if len(latencies_ms) else (0.0, 0.0, 0.0)
    )
    answered = load.statuses[200]
    refused = sum(load.statuses[status] for status in _REFUSED)
    return HttpReport(
        offered_per_s=due / seconds,
        answered=answered,
        refused=refused,
        failed=sum(load.statuses.values()) - answered - refused,
        answered_per_s=answered / elapsed,
        within_objective_per_s=int((latencies_ms <= task.get("objective_ms", np.inf)).sum())
        / seconds,
        mean_ms=float(latencies_ms.mean()) if len(latencies_ms) else 0.0,
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        generator_cpu_s=time.process_time() - cpu,
        statuses={str(status): count for status, count in load.statuses.items()},
    )


def main() -> None:
    """Read a task from standard input, run it, print the report."""
    task = json.load(sys.stdin)
    allow_many_files()
    try:
        import uvloop  # noqa: PLC0415 not on Windows

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ModuleNotFoundError:
        runner = asyncio.Runner()
    with runner:
        print(json.dumps(asdict(runner.run(_run(task)))))


if __name__ == "__main__":
    main()
