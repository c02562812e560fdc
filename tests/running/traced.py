"""A program under strace: which files it writes, and whom it talks to."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat"
_WRITES = re.compile(
    r'(?:open|openat|creat|mkdir|mkdirat)\((?:\w+<(?P<folder>[^>]*)>, )?"(?P<path>[^"]*)"'
    r"(?:, 0\d+|, \S*(?:O_CREAT|O_WRONLY|O_RDWR)\S*)"
)
_CONTACTS = re.compile(r"(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?\b")
_FAILED = " = -1 "


@cache
def can_trace() -> bool:
    """Whether strace is installed, and allowed here."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-f", "-o", "/dev/null", "true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def traced(log: Path) -> list[str]:
    """What to put before a command; signals reach the command itself."""
    return ["strace", "-D", "-f", "-y", "-o", str(log), "-e", f"trace={_CALLS}"]


def contacts(log: Path) -> list[str]:
    """Calls that connect or send to an Internet address, this machine's own too."""
    return [line for line in log.read_text().splitlines() if _CONTACTS.search(line)]


def written(log: Path, directory: Path) -> set[Path]:
    """Files opened for writing and folders made by a program that ran in `directory`."""
    return {path for path in _written(log, directory) if path.parts[1] not in {"dev", "proc"}}


def _written(log: Path, directory: Path) -> Iterator[Path]:
    for line in log.read_text().splitlines():
        found = _WRITES.search(line)
        if found and _FAILED not in line:
            yield directory / (found["folder"] or "") / found["path"]


def ended(log: Path) -> bool:
    """Whether the program and all of its processes have ended, and the trace is whole."""
    return log.read_text().rstrip().rpartition("\n")[2].endswith("+++")
