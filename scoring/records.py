"""What inputs give: records in order, shard by shard. An unreadable image is a record too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from serving.images.decode import ImageLimits

LIMITS = ImageLimits()
"""What a server accepts unless it was told otherwise."""

TrueLabel: TypeAlias = str | int
"""A class by its name, or by its number in the order of the model's classes."""


class FaultKind(StrEnum):
    """Why an image has no answer."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    INVALID = "invalid_image"


@dataclass(frozen=True, slots=True)
class Fault:
    """The kind, for counting, and one sentence."""

    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """One input: an encoded image, or why it could not be read.

    An image of more bytes than are accepted is cut off one byte behind the limit.

    Attributes:
        id: its file, or its container and its row there; unique among the inputs.
        path: of the file, as far as there is one.
        image: the encoded image.
        label: its class, where labels are read and it has one.
    """

    id: str
    path: str | None
    image: bytes | Fault
    label: TrueLabel | None = None


class Shard(Protocol):
    """Inputs in a fixed order, independent of all others. Can be pickled.

    Attributes:
        rows: how many, where that is known before they are read.
    """

    @property
    def rows(self) -> int | None: ...

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the records after the first `skip`, few at a time."""
        ...
