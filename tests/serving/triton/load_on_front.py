"""Clients that keep asking a server in front of Triton, whatever happens to Triton."""

from __future__ import annotations

import collections
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx

from tests.running_server import RunningServer
from tests.waiting import WAIT_S, wait_until

CLASSIFY = "/v1/classify"
CLIENTS = 8


class Load:
    """Clients that ask one request after the other while this is entered.

    Attributes:
        statuses: how often each was answered.
        longest_s: the longest that an answer took.
    """

    def __init__(self, front: RunningServer, picture: bytes) -> None:
        self.statuses: collections.Counter[int] = collections.Counter()
        self.longest_s = 0.0
        self._front, self._picture = front, picture
        self._stop = threading.Event()
        self._clients = ThreadPoolExecutor(CLIENTS)

    def __enter__(self) -> Self:
        self._running = [self._clients.submit(self._ask) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._clients.shutdown()
        for client in self._running:
            client.result()

    def wait_for(self, status: int, count: int) -> None:
        """Wait for so many further answers of this status."""
        wanted = self.statuses[status] + count
        wait_until(lambda: self.statuses[status] >= wanted)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._front.url, timeout=WAIT_S) as client:
            while not self._stop.is_set():
                start = time.monotonic()
                response = client.post(CLASSIFY, content=self._picture)
                self.longest_s = max(self.longest_s, time.monotonic() - start)
                self.statuses[response.status_code] += 1
                if response.status_code != 200:
                    assert response.headers["retry-after"] == "1"
                    time.sleep(0.1)
