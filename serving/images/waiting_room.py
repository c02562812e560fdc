"""Bounds the images that were admitted and are not yet answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import InvalidRequest, Overloaded, RequestTooLarge


class WaitingRoom:
    """Room for images. All methods belong to the event loop's thread."""

    def __init__(self, most_a_request: int, most: int) -> None:
        self._most_a_request = most_a_request
        self._most = most
        self._taken = 0

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Take room for a request of `count` images, for the length of a `with` block.

        Raises:
            InvalidRequest: for none.
            RequestTooLarge: for more than a request may hold.
            Overloaded: if there is no room.
        """
        if count == 0:
            raise InvalidRequest("the request holds no image")
        if count > self._most_a_request:
            raise RequestTooLarge(f"a request may hold {self._most_a_request} images, not {count}")
        if self._taken + count > self._most:
            raise Overloaded
        self._taken += count
        try:
            yield
        finally:
            self._taken -= count
