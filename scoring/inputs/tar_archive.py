"""Members of a tar file, read from start to end in bounded memory.

Python's `tarfile` reads the headers. It takes a damaged header for the end of the archive, as some
take a single blank one; here both are errors, because what follows would be lost without a word.
Two blank blocks end an archive, and behind them another may follow. What is no header there is an
error too: a page of zeros over the middle of an archive looks the same.
"""

from __future__ import annotations

import gzip
import io
import lzma
import posixpath
import tarfile
import zlib
from bz2 import BZ2File
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Self, cast

from scoring.inputs.recent import Recent
from scoring.records import LIMITS, Fault, FaultKind

DAMAGE = (
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a damaged archive raises, compressed or not."""

_MOST_HEADERS = 2**20
"""Bytes of all headers of one member: long names, PAX records, maps of sparse files."""

_MOST_REMEMBERED = 64 * 2**20
"""Bytes that are kept so that links can be followed."""

_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member's content lies in a plain archive."""

    offset: int
    size: int


class TarReader:
    """The members of an archive, in its order; folders are left out.

    A link has the content of the member that it names, where that comes before it and not too far:
    some 100,000 members in a plain archive, 64 MiB of content in a compressed one.

    Raises:
        DAMAGE: where the archive is damaged or cut short.
    """

    def __init__(self, file: IO[bytes]) -> None:
        opener = _decompressor(file)
        self._plain = opener is None
        self._stream = _Stream(file if opener is None else opener(file))
        self._remembered: Recent[_Place | bytes] = Recent(_MOST_REMEMBERED)
        self._content: bytes | Fault | None = None
        self._archive = _Archive(
            fileobj=cast("IO[bytes]", self._stream), mode="r", tarinfo=_Header, ignore_zeros=True
        )

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._next()) is not None:
            if not member.isdir():
                self._content = None
                yield member
                self._remember(member)

    def read(self, member: tarfile.TarInfo) -> bytes | Fault:
        """The content of the member that came last, cut off one byte behind the limit."""
        if self._content is None:
            self._content = self._read(member)
        return self._content

    def _next(self) -> tarfile.TarInfo | None:
        self._stream.allow(_MOST_HEADERS)
        member = self._archive.next()
        self._archive.members.clear()  # type: ignore[attr-defined] # it would keep all of them
        if member is None and not self._archive.blank_blocks:
            raise tarfile.ReadError("it has no end-of-archive block, as if it were cut off")
        return member

    def _read(self, member: tarfile.TarInfo) -> bytes | Fault:
        if _is_link(member):
            return self._linked(member)
        if member.ischr() or member.isblk() or member.isfifo():
            return Fault(FaultKind.UNREADABLE, "it is a device or a pipe, not a file")
        wanted = min(member.size, LIMITS.max_bytes + 1)
        self._stream.allow(wanted + _AT_ONCE)
        file = self._archive.extractfile(member)
        content = b"" if file is None else file.read(wanted)
        if len(content) < wanted:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def _linked(self, member: tarfile.TarInfo) -> bytes | Fault:
        found = self._remembered.get(_target(member))
        if found is None:
            return Fault(
                FaultKind.UNREADABLE,
                f"it is a link to {member.linkname}, which is not among the files before it in "
                "the archive, or too far back",
            )
        if isinstance(found, bytes):
            return found
        return self._stream.at(found.offset, min(found.size, LIMITS.max_bytes + 1))

    def _remember(self, member: tarfile.TarInfo) -> None:
        """Keep what a later link needs."""
        name, found = _normal(member.name), None
        if _is_link(member):
            found = self._remembered.get(_target(member))
        elif self._plain and member.isreg() and not member.issparse():
            found = _Place(member.offset_data, member.size)
        elif isinstance(content := self.read(member), bytes):
            found = content
        if found is not None:
            self._remembered.add(name, found, len(found) if isinstance(found, bytes) else 0)


class _Stream:
    """What tarfile reads: forwards, and at once no more than it is allowed to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0
        self._allowed = _MOST_HEADERS

    def allow(self, size: int) -> None:
        """Let so many bytes be read until the next call."""
        self._allowed = size

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._allowed:
            raise tarfile.ReadError("a header is longer than any that is read")
        data = self._file.read(size)
        self._allowed -= len(data)
        self._position += len(data)
        return data

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header leads back to what was read before")
        while self._position < position:
            skipped = len(self._file.read(min(position - self._position, _AT_ONCE)))
            if not skipped:
                raise tarfile.ReadError("unexpected end of data")
            self._position += skipped

    def at(self, offset: int, size: int) -> bytes:
        """Bytes from an earlier place, for files that can seek."""
        self._file.seek(offset)
        content = self._file.read(size)
        self._file.seek(self._position)
        return content


class _Archive(tarfile.TarFile):
    """Counts the blank blocks behind the last member: two end an archive, the rest fills it up."""

    blank_blocks = 0


class _Header(tarfile.TarInfo):
    """A header; a damaged one is an error, which tarfile takes for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):
                raise tarfile.ReadError(f"{error} at a header") from error
            raise

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        assert isinstance(archive, _Archive)
        stream = cast("_Stream", archive.fileobj)
        begin = stream.tell()
        try:
            header = super().fromtarfile(archive)
        except tarfile.HeaderError:
            if stream.tell() == begin + tarfile.BLOCKSIZE:
                archive.blank_blocks += 1
                stream.allow(_MOST_HEADERS)  # there may be any number of them
            raise
        if archive.blank_blocks == 1:
            raise tarfile.ReadError("a header is blank")
        archive.blank_blocks = 0
        return header


def _decompressor(file: IO[bytes]) -> Callable[[IO[bytes]], IO[bytes]] | None:
    """By the first bytes; None for a plain archive."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    return next((each for magic, each in _DECOMPRESSORS.items() if start.startswith(magic)), None)


def _gzip(file: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=file)


def _zstandard(file: IO[bytes]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 the standard library has it from 3.14 on

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))


_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x5d\0\0\x80": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstandard,
}


def _is_link(member: tarfile.TarInfo) -> bool:
    return member.islnk() or member.issym()


def _target(member: tarfile.TarInfo) -> str:
    """The member that a link names: a hard link from the archive's root, others from beside it."""
    if member.islnk():
        return _normal(member.linkname)
    return _normal(posixpath.join(posixpath.dirname(member.name), member.linkname))


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")
