"""Clients that keep asking while a test goes on."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self

import httpx

from tests.running.server import RunningServer
from tests.running.waiting import wait_until

CLASSIFY = "/v1/classify"


@contextmanager
def asking(ask: Callable[[], object], clients: int = 1, pause_s: float = 0.0) -> Iterator[None]:
    """So many clients call `ask` again and again while the block runs; an error of one is raised.

    Each pauses before it asks.
    """
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(pause_s):
            ask()

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(go_on) for _ in range(clients)]
        try:
            yield
        finally:
            done.set()
    for client in running:
        client.result()


class Load:
    """Clients that post one request after the other while this is entered.

    Attributes:
        answers: what was answered, by status and in order.
        longest_s: the longest that an answer took.
    """

    def __init__(
        self,
        server: RunningServer,
        path: str = CLASSIFY,
        *,
        clients: int = 8,
        refused_pause_s: float = 0.1,
        **request: Any,
    ) -> None:
        self.answers: dict[int, list[httpx.Response]] = collections.defaultdict(list)
        self.longest_s = 0.0
        self._request = {"url": f"{server.url}{path}", **request}
        self._refused_pause_s = refused_pause_s
        self._asking = asking(self._ask, clients)
        self._own = threading.local()
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._asking.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        with self._opened:
            self._asking.__exit__(*raised)

    def wait_for(self, status: int, count: int) -> None:
        """Wait for so many further answers of this status."""
        wanted = len(self.answers[status]) + count
        wait_until(lambda: len(self.answers[status]) >= wanted)

    @property
    def _client(self) -> httpx.Client:
        """Each thread's own: one that closes connections is not for many threads."""
        if not hasattr(self._own, "client"):
            self._own.client = self._opened.enter_context(httpx.Client(timeout=60))
        client: httpx.Client = self._own.client
        return client

    def _ask(self) -> None:
        start = time.monotonic()
        response = self._client.post(**self._request)
        self.longest_s = max(self.longest_s, time.monotonic() - start)
        self.answers[response.status_code].append(response)
        if response.status_code != 200:
            assert response.headers["retry-after"] == "1", response.text
            time.sleep(self._refused_pause_s)
