"""Readers of JSON values that say by its name which field is wrong; standard library only.

Each takes a parsed value and the name of its field, and returns the value in its Python type.

Raises:
    ValueError: naming the field and what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_MAX_INTEGER = 2**53
"""Up to here every whole number is a float too: counters and quotients stay exact."""

T = TypeVar("T")


class Fields:
    """A JSON object whose fields are taken out one by one, so that what is left is unknown."""

    def __init__(self, data: object, name: str) -> None:
        self._name = name
        self._left = dict(mapping(data, name))

    def take(self, key: str, convert: Callable[[object, str], T]) -> T:
        """The field `key`, as `convert` reads it; it is called with the value and the key."""
        if key not in self._left:
            raise ValueError(f"{self._name} has no field {key!r}")
        return convert(self._left.pop(key), key)

    def take_if_there(self, key: str, convert: Callable[[object, str], T]) -> T | None:
        """The same for a field that may be missing."""
        return self.take(key, convert) if key in self._left else None

    def require_empty(self) -> None:
        """Raise ValueError if fields are left that nobody asked for."""
        if self._left:
            unknown = ", ".join(sorted(self._left))
            raise ValueError(f"{self._name} has unknown fields: {unknown}")


def refuse_constant(name: str) -> float:
    """For `json.loads(parse_constant=..)`: neither NaN nor Infinity is JSON."""
    raise ValueError(f"{name} is not a number that JSON knows")


def anything(value: object, _: str) -> object:
    """Whatever it is."""
    return value


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value


def text(value: object, name: str) -> str:
    """A text that is not empty and can be written as UTF-8."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a character") from None
    return value


def integer(value: object, name: str) -> int:
    """A whole number that every JSON reader can hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number")
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"{name} is larger than 2^53")
    return value


def number(value: object, name: str) -> float:
    """A finite number."""
    if isinstance(value, int):
        return float(integer(value, name))
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number")
    return value


def number_or_none(value: object, name: str) -> float | None:
    """A finite number or null."""
    return None if value is None else number(value, name)


def tuple_of(convert: Callable[[object, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    """A reader of lists of what `convert` reads."""

    def convert_all(value: object, name: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list")
        return tuple(convert(item, f"{name}[{i}]") for i, item in enumerate(value))

    return convert_all


def nonempty(
    convert: Callable[[object, str], tuple[T, ...]],
) -> Callable[[object, str], tuple[T, ...]]:
    """The same reader, for lists that are not empty."""

    def convert_nonempty(value: object, name: str) -> tuple[T, ...]:
        converted = convert(value, name)
        if not converted:
            raise ValueError(f"{name} must not be empty")
        return converted

    return convert_nonempty
