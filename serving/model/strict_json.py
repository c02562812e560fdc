"""JSON that anyone may have written -> frozen dataclasses, or one sentence on what is wrong.

pydantic checks it: no type becomes another, nothing is unknown or missing, every number is finite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, str_min_length=1)
"""Of the outermost type; the dataclasses inside it follow, as they say nothing else."""

_MAX_INTEGER = 2**53
_T = TypeVar("_T")
_Number = TypeVar("_Number", int, float)


def _exact(value: _Number) -> _Number:
    if abs(value) > _MAX_INTEGER:
        raise ValueError("must not be larger than 2^53")
    return value


def _finite(value: Mapping[str, Any]) -> Mapping[str, Any]:
    json.dumps(value, allow_nan=False)
    return value


Whole: TypeAlias = Annotated[int, AfterValidator(_exact)]
Number: TypeAlias = Annotated[float, AfterValidator(_exact)]
"""Up to 2^53 every whole number is a float too: counters and quotients stay exact."""

JsonObject: TypeAlias = Annotated[Mapping[str, Any], AfterValidator(_finite)]
"""With whatever JSON can say in it."""


def read_json(adapter: TypeAdapter[_T], content: str | bytes) -> _T:
    """Content of a file, or of a part of one, as the type of an adapter that is `STRICT`.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, as in `gears.fast.thresholds[0]: Input should be ..`."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "unexpected_keyword_argument":
        message = "Unknown field"
    else:
        message = first["msg"]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    place = "".join(parts).removeprefix(".")
    return f"{place}: {message}" if place else message
