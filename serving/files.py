"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
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
