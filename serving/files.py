"""Files that are there whole or not at all, and text as people save it."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def require_writable(path: Path) -> None:
    """Find out whether `replacing` can write a file: before long work, whose result it is for.

    Raises:
        OSError: if it can't.
    """
    if path.exists() and not path.is_file():  # such as a folder, or a device that would be replaced
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: Path, temporary_in: Path | None = None) -> Iterator[IO[bytes]]:
    """Write a file beside `path`; at a clean end it takes the place of `path` in one step.

    Until then it is in the folder `temporary_in` of the same file system, if there is one.
    """
    folder = temporary_in or path.parent
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class _Ahead(io.BufferedReader):
    """Fills its buffer when it is empty: text asks for 8 KiB at a time, which slow disks repay."""

    def read1(self, size: int = -1, /) -> bytes:
        self.peek(1)
        return super().read1(size)


def as_text(file: IO[bytes]) -> io.TextIOWrapper:
    """The text of a file that stands at its start: UTF-8, or UTF-16 as Windows has it.

    A byte-order mark is no part of it; without one, UTF-16 is known by the zero in its first
    character. Lines end as they do in the file. Closing the text closes the file.
    """
    ahead = _Ahead(file, 2**20)  # type: ignore[arg-type] # a raw file, or any that has readinto
    head = ahead.peek(2)[:2]
    if head in {b"\xff\xfe", b"\xfe\xff"}:
        encoding = "utf-16"
    elif len(head) == 2 and 0 in head:
        encoding = "utf-16-le" if head[1] == 0 else "utf-16-be"
    else:
        encoding = "utf-8-sig"
    return io.TextIOWrapper(ahead, encoding=encoding, newline="")
