"""What came last, by name, within a bound on memory."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")

_ENTRY = 300
"""About what an entry takes besides its name and what it holds, bytes."""


class Recent(Generic[Value]):
    """Remembers values by name; forgets the oldest ones beyond so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._values: dict[str, tuple[Value, int]] = {}

    def add(self, name: str, value: Value, size: int = 0) -> None:
        """Remember a value of `size` bytes, in place of another one of its name."""
        self._forget(name)
        size += _ENTRY + 4 * len(name)
        self._values[name] = (value, size)
        self._left -= size
        while self._left < 0:
            self._forget(next(iter(self._values)))

    def get(self, name: str) -> Value | None:
        """The value of that name, unless it was forgotten."""
        found = self._values.get(name)
        return None if found is None else found[0]

    def _forget(self, name: str) -> None:
        if name in self._values:
            self._left += self._values.pop(name)[1]
