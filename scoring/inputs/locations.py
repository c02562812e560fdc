"""Files by path or URL. URLs go through fsspec: s3://, gs://, https://, memory:// and others."""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from scoring.errors import InputError, one_line
from scoring.records import LIMITS, Fault, FaultKind
from serving.images.folders import Search, files_of, left_out_by_name

_THIS_MACHINE = ("file://", "local://")

_LOCAL_PROTOCOLS = frozenset({"file", "local", "asynclocal", "generic", "git", "dvc"})
"""Of fsspec's file systems, those that read files of this machine, or pass on to one that does."""

_OF_THIS_MACHINE = Fault(
    FaultKind.UNREADABLE, "what is behind a URL may not name files of this machine"
)

_PAUSES_S = (0.2, 1.0)
"""Before a file behind a URL is tried again."""


def is_url(location: str) -> bool:
    """Whether it names a file system besides this machine's."""
    return "://" in location


def _is_web(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def local_path(location: str) -> str | None:
    """The path of a file on this machine, also of a file:// URL; None for any other."""
    if not is_url(location):
        return location
    if location.startswith(("file://", "local://")):
        return _file_system(location)[1]
    return None


def join(folder_of: str, location: str) -> str | Fault:
    """A location that a file names: relative to the folder of that file, if it is relative.

    A file behind a URL is written by others, and may name no file of this machine.
    """
    if is_url(location):
        barred = local_path(folder_of) is None and _may_be_of_this_machine(location)
        return _OF_THIS_MACHINE if barred else location
    if _is_web(folder_of):
        return _on_the_web(folder_of, location)
    if not is_url(folder_of) and Path(location).is_absolute():
        return location
    folder = folder_of.rpartition("/")[0]
    return f"{folder}/{location}" if folder else location


def _may_be_of_this_machine(location: str) -> bool:
    protocol = location.partition("://")[0].lower()
    return "::" in location or protocol in _LOCAL_PROTOCOLS


def _on_the_web(base: str, location: str) -> str | Fault:
    """As a browser resolves it, but for what looks like a protocol, query or fragment at first."""
    try:
        return urljoin(base, location if location.startswith("/") else f"./{location}")
    except ValueError:  # of brackets in the place of a host
        return Fault(FaultKind.UNREADABLE, "it is no address")


def expand(location: str, search: Search) -> Iterator[str]:
    """The files that a location names: one file, those below a folder, or those of a glob.

    In no order; sort them. A file that is named itself is given whatever its ending.

    Raises:
        InputError: if there is no such thing, or it can't be listed.
    """
    if is_url(location):
        yield from _expand_url(location, search)
        return
    try:
        yield from files_of(location, search)
    except OSError as error:
        raise InputError(error.strerror) from error


def _expand_url(location: str, search: Search) -> Iterator[str]:
    if _is_web(location):  # a web server lists nothing, and an address may hold a ? or *
        yield location
        return
    system, path = _file_system(location)
    try:
        if location.startswith(_THIS_MACHINE):  # which has links
            yield from map(system.unstrip_protocol, expand(path, search))
        elif glob.has_magic(path):
            yield from map(system.unstrip_protocol, _remote_glob(system, path, search))
        elif system.isdir(path):
            yield from map(system.unstrip_protocol, _remote_files(system, path, search))
        elif system.exists(path):
            yield location
        else:
            raise InputError(f"there is no folder, file or glob {location}")
    except InputError:
        raise
    except Exception as error:  # every file system has its own
        raise input_error(location, error) from error


def _remote_files(system: Any, folder: str, search: Search) -> Iterator[str]:
    """As `files_below`, of a file system that has no links."""
    found = system.find(folder)
    return (path for path in found if _takes(search, path, folder, by_glob=False))


def _remote_glob(system: Any, pattern: str, search: Search) -> Iterator[str]:
    """As `files_of_glob`, of a file system that has no links."""
    above = re.split("[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    found = system.glob(pattern, detail=True)
    folders = [path for path, info in found.items() if info["type"] == "directory"]
    files = found.keys() - folders
    by_glob = not pattern.endswith("**")
    yield from (path for path in files if _takes(search, path, above, by_glob=by_glob))
    searched = None
    for folder in sorted(folders, key=lambda path: f"{path}/"):
        if searched is None or not folder.startswith(f"{searched}/"):
            searched = folder
            inside = (path for path in system.find(folder) if path not in files)
            yield from (path for path in inside if _takes(search, path, above, by_glob=False))


def _takes(search: Search, path: str, above: str, *, by_glob: bool) -> bool:
    """Whether a file is wanted, for its name and those of the folders that it lies in."""
    kinds = map(left_out_by_name, path[len(above) :].split("/"))
    kind = next(filter(None, kinds), None)
    if kind is None:
        return search.takes(path, by_glob=by_glob)
    search.left_out[kind] += 1
    return False


def stamp(location: str) -> str:
    """What changes when a file does: its size, and when or what it was written.

    Raises:
        InputError: if it can't be looked at.
    """
    try:
        if not is_url(location):
            found = os.stat(location)  # noqa: PTH116
            return f"{found.st_size} {found.st_mtime_ns}"
        system, path = _file_system(location)
        info = system.info(path)
    except InputError:
        raise
    except Exception as error:  # every file system has its own
        raise input_error(location, error) from error
    return f"{info.get('size')} {info.get('ETag') or info.get('etag') or info.get('mtime') or ''}"


def open_file(location: str) -> IO[bytes]:
    """Open a container for reading; it can seek.

    Raises:
        InputError: if it isn't there or can't be read.
    """
    try:
        if not is_url(location):
            return _open_regular(location)
        system, path = _file_system(location)
        file: IO[bytes] = system.open(path, "rb")
        if _is_web(location) and not _sends_parts(file):
            file.close()
            return _downloaded(system.open(path, "rb", block_size=0))
        return file
    except InputError:
        raise
    except Exception as error:  # every file system has its own
        raise input_error(location, error) from error


def may_exist(location: str) -> bool:
    """Whether there is such a file, or none can say.

    Raises:
        InputError: if a package for the file system is not installed.
    """
    try:
        if not is_url(location):
            os.stat(location)  # noqa: PTH116
            return True
        with _open(location):
            return True
    except _UnknownFileSystem:
        return False
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 every file system has its own
        return not _is_missing(error) if is_url(location) else isinstance(error, PermissionError)


def read_image(location: str) -> bytes | Fault:
    """An image's bytes, at most one more than are accepted; behind a URL, after up to three tries.

    What can't be read is a fault of this image alone.

    Raises:
        InputError: if a package for the file system is not installed.
    """
    pauses = iter(_PAUSES_S if is_url(location) else ())
    while True:
        try:
            with _open(location) as file:
                return file.read(LIMITS.max_bytes + 1)
        except _UnknownFileSystem as error:
            return Fault(FaultKind.UNREADABLE, str(error))
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 every file system has its own
            pause = next(pauses, None)
            if _is_missing(error):
                return Fault(FaultKind.MISSING, "there is no such file")
            if pause is None or isinstance(error, PermissionError):
                return Fault(FaultKind.UNREADABLE, f"the file can't be read: {_reason(error)}")
        time.sleep(pause)


def _open(location: str) -> IO[bytes]:
    if not is_url(location):
        return _open_regular(location)
    system, path = _file_system(location)
    file: IO[bytes] = system.open(path, "rb")
    return file


def _open_regular(path: str) -> IO[bytes]:
    # Opened without blocking, because a named pipe would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise IsADirectoryError(None, "it is no regular file", path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _sends_parts(file: IO[bytes]) -> bool:
    """Whether a web server sends the end of a file without what is before it.

    The file stands at its start again.
    """
    try:
        file.seek(-1, os.SEEK_END)
        sent = len(file.read(1)) == 1
        file.seek(0)
        return sent
    except (OSError, ValueError):  # fsspec's for a server that doesn't
        return False


def _downloaded(file: IO[bytes]) -> IO[bytes]:
    """The content in a temporary file: from a web server that sends no parts of files."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 the caller closes it
    try:
        with file:
            shutil.copyfileobj(file, copy, 2**20)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


class _UnknownFileSystem(InputError):
    pass


def _file_system(location: str) -> tuple[Any, str]:
    """The file system of a URL, which fsspec keeps, and the path there."""
    import fsspec  # noqa: PLC0415 only for URLs

    protocol = location.partition("://")[0]
    try:
        system = fsspec.filesystem(protocol)
    except ImportError as error:
        raise InputError(
            f"{location} needs a package that is not installed: {_reason(error)}"
        ) from error
    except ValueError as error:
        raise _UnknownFileSystem(f"{protocol}:// is no file system that fsspec knows") from error
    return system, system._strip_protocol(location)  # noqa: SLF001 fsspec has no public name for it


def input_error(location: str, error: Exception) -> InputError:
    """The error for an input that can't be opened or listed."""
    if _is_missing(error):
        return InputError(f"there is no file {location}")
    return InputError(f"{location} can't be read: {_reason(error)}")


def _is_missing(error: Exception) -> bool:
    # fsspec says of a web server that does not answer, too, that there is no such file.
    status = getattr(error.__cause__, "status", 404)
    no_answer = isinstance(error.__cause__, OSError) and not _is_missing(error.__cause__)
    return isinstance(error, FileNotFoundError) and status == 404 and not no_answer


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error) or type(error).__name__
