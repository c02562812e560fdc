"""System shared memory: tensors that clients on the same machine hand over without sending them.

A client makes a POSIX shared memory object, registers a region of it under a name, and then names
that region in its requests (Triton's system shared memory extension). Knows no transport.

Regions are read and written as files, never mapped: a client may cut its memory short at any time,
and then a read comes back short, where touching a mapping would end this process with SIGBUS. Every
input is copied once, so that nothing changes under an image that is being classified.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from serving.errors import (
    InvalidRequest,
    Overloaded,
    RegionExists,
    RegionNotFound,
    RequestTooLarge,
    SettingsError,
    Unsupported,
)

EXTENSION = "system_shared_memory"
MAX_REGIONS = 256
"""Each holds a file open, and a process may often have 1,024 of them in all."""

_FOLDER = Path("/dev/shm")  # noqa: S108, where shm_open keeps its objects on Linux
_LONGEST_NAME = 255
_REGION = "shared_memory_region"
_BYTE_SIZE = "shared_memory_byte_size"
_OFFSET = "shared_memory_offset"


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, as a client says it; `offset` counts from the region's start."""

    region: str
    offset: int
    byte_size: int


class Region:
    """A part of a shared memory object, open for as long as anything refers to it.

    Raises:
        InvalidRequest: if there is no such object, or it does not reach that far.
    """

    def __init__(self, name: str, key: str, offset: int, byte_size: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._file = _open(key, offset + byte_size)
        weakref.finalize(self, os.close, self._file)

    @property
    def description(self) -> dict[str, Any]:
        """As the protocol tells of it."""
        return {
            "name": self.name,
            "key": self.key,
            "offset": self.offset,
            "byte_size": self.byte_size,
        }

    def read(self, offset: int, byte_size: int) -> memoryview:
        """A copy of bytes inside this region.

        Raises:
            InvalidRequest: if the client has cut its memory short since it registered it.
        """
        content = np.empty(byte_size, np.uint8).data
        done = 0
        while done < byte_size:
            count = os.preadv(self._file, [content[done:]], self.offset + offset + done)
            if not count:
                raise self._shrunk()
            done += count
        return content

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes into this region.

        Raises:
            InvalidRequest: if the client has cut its memory short, or the system has none left.
        """
        start, done = self.offset + offset, 0
        # Cut short after this line, the object grows again: harmless, for the client asked for it.
        if os.fstat(self._file).st_size < start + len(content):
            raise self._shrunk()
        try:
            while done < len(content):
                done += os.pwrite(self._file, content[done:], start + done)
        except OSError as error:
            raise InvalidRequest(
                f"the shared memory region {self.name!r} can't be written: {error.strerror}"
            ) from None

    def _shrunk(self) -> InvalidRequest:
        return InvalidRequest(
            f"the shared memory region {self.name!r} is smaller than when it was registered"
        )


@dataclass(frozen=True)
class Piece:
    """A place in a region; holds the region open, even if it is unregistered meanwhile."""

    region: Region
    place: Place

    def read(self) -> memoryview:
        """As `Region.read`."""
        return self.region.read(self.place.offset, self.place.byte_size)

    def require_room(self, output: str, byte_size: int) -> None:
        """Raise InvalidRequest if so many bytes of an output don't fit."""
        if byte_size > self.place.byte_size:
            raise InvalidRequest(
                f"the output {output!r} takes {byte_size} bytes, and {_BYTE_SIZE} is "
                f"{self.place.byte_size}"
            )

    def write(self, content: bytes) -> None:
        """As `Region.write`."""
        self.region.write(self.place.offset, content)


class SharedMemoryRegions:
    """The regions that clients have registered, by name.

    Args: whether clients may register any, the largest input that is read from one, and how much
    all requests under way may have read together.

    Raises:
        SettingsError: if they may, on a system that has no `/dev/shm`.
    """

    def __init__(self, *, enabled: bool, max_input_bytes: int, max_total_bytes: int) -> None:
        if enabled and not _FOLDER.is_dir():
            raise SettingsError(f"shared memory needs {_FOLDER}, which this system does not have")
        self.enabled = enabled
        self._max_input_bytes = max_input_bytes
        self._max_total_bytes = max_total_bytes
        self._held_bytes = 0
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Make a part of a shared memory object known under a name.

        Raises:
            Unsupported: if shared memory is switched off.
            RegionExists: if there is a region of that name.
            InvalidRequest: for a name, key, offset or size that makes no sense, or too many.
        """
        self._require_enabled()
        if not 0 < len(name) <= _LONGEST_NAME:
            raise InvalidRequest(f"a region's name must have 1 to {_LONGEST_NAME} characters")
        if offset < 0 or byte_size <= 0:
            raise InvalidRequest("offset must not be negative, and byte_size must be above 0")
        if name in self._regions:
            raise RegionExists(f"there is a shared memory region {name!r}; unregister it first")
        if len(self._regions) >= MAX_REGIONS:
            raise InvalidRequest(
                f"there are {MAX_REGIONS} shared memory regions, as many as there may be"
            )
        self._regions[name] = Region(name, key, offset, byte_size)

    def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all of them; one that is not there is no error, as in Triton."""
        if name is None:
            self._regions.clear()
        else:
            self._regions.pop(name, None)

    def status(self, name: str | None = None) -> tuple[Region, ...]:
        """The region of that name, or all of them.

        Raises:
            RegionNotFound: if there is none of that name.
        """
        return tuple(self._regions.values()) if name is None else (self._find(name),)

    def piece(self, place: Place) -> Piece:
        """The piece of a region that a client means.

        Raises:
            Unsupported: if shared memory is switched off.
            RegionNotFound: if there is no such region.
            InvalidRequest: if the place is not inside it.
        """
        self._require_enabled()
        region = self._find(place.region)
        if place.offset + place.byte_size > region.byte_size:
            raise InvalidRequest(
                f"{place.byte_size} bytes at offset {place.offset} don't lie within the shared "
                f"memory region {region.name!r} of {region.byte_size} bytes"
            )
        return Piece(region, place)

    @contextmanager
    def reading(self, place: Place) -> Iterator[Piece]:
        """An input's piece; its size counts as memory in use until the context ends.

        Raises:
            As `piece`.
            RequestTooLarge: if it is larger than an input may be.
            Overloaded: if the requests under way have read too much already.
        """
        piece = self.piece(place)
        if place.byte_size > self._max_input_bytes:
            raise RequestTooLarge(f"the input is larger than {self._max_input_bytes} bytes")
        if self._held_bytes + place.byte_size > self._max_total_bytes:
            raise Overloaded("the server is busy with large requests; try again in a moment")
        self._held_bytes += place.byte_size
        try:
            yield piece
        finally:
            self._held_bytes -= place.byte_size

    def _find(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise RegionNotFound(f"there is no shared memory region {name[:100]!r}")
        return region

    def _require_enabled(self) -> None:
        if not self.enabled:
            raise Unsupported("shared memory is switched off; ride serve --shared-memory allows it")


def no_cuda_region(name: str | None) -> None:
    """Raise RegionNotFound if a CUDA shared memory region is named: there are none."""
    if name:
        raise RegionNotFound(f"there is no CUDA shared memory region {name[:100]!r}")


def refuse_cuda() -> NoReturn:
    """Raise Unsupported: registering CUDA shared memory is refused."""
    raise Unsupported("this server has no CUDA shared memory")


def parse_place(parameters: Mapping[str, object]) -> Place | None:
    """Where a tensor's parameters say that it lies, or None if they say nothing of it.

    Raises:
        InvalidRequest: if they say it in part, or nonsense.
    """
    if not parameters.keys() & {_REGION, _BYTE_SIZE, _OFFSET}:
        return None
    region, byte_size = parameters.get(_REGION), parameters.get(_BYTE_SIZE)
    offset = parameters.get(_OFFSET, 0)
    if not isinstance(region, str) or byte_size is None:
        raise InvalidRequest(f"{_REGION}, a text, and {_BYTE_SIZE} go together")
    if type(byte_size) is not int or type(offset) is not int or min(byte_size, offset) < 0:
        raise InvalidRequest(f"{_BYTE_SIZE} and {_OFFSET} must be whole numbers, not negative")
    return Place(region, offset, byte_size)


def _open(key: str, end: int) -> int:
    """A shared memory object's file, as shm_open(3) opens it, if it has `end` bytes."""
    name = key.removeprefix("/")
    if not name or "/" in name or "\0" in name or name in {".", ".."} or len(key) > _LONGEST_NAME:
        raise InvalidRequest(
            f"a key must be a slash and a name of at most {_LONGEST_NAME} characters without one, "
            f"not {key[:100]!r}"
        )
    # A link could lead anywhere, and a pipe or a device could make the server wait.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        file = os.open(_FOLDER / name, flags)
    except OSError as error:
        raise InvalidRequest(
            f"the shared memory object {key[:100]!r} can't be opened: {error.strerror}"
        ) from None
    try:
        _check(os.fstat(file), key, end)
    except InvalidRequest:
        os.close(file)
        raise
    return file


def _check(status: os.stat_result, key: str, end: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequest(f"the key {key[:100]!r} is not that of a shared memory object")
    if status.st_size < end:
        raise InvalidRequest(
            f"the region ends at byte {end}, and the shared memory object {key[:100]!r} has "
            f"{status.st_size} bytes"
        )
