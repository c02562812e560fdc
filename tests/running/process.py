"""A program in a process of its own, which has ended when a test is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

_STOP_TIMEOUT_S = 30

Process = subprocess.Popen[bytes]


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    own_group: bool = False,
) -> Process:
    """Start it; what it prints is added to `log`. Ctrl+C does not reach a group of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=own_group,
        )


def stop(
    process: Process, number: signal.Signals = signal.SIGTERM, *, own_group: bool = False
) -> None:
    """Send it a signal, or all of its group, and kill what does not end."""
    for each in (number, signal.SIGKILL):
        with suppress(ProcessLookupError):  # it has ended
            if own_group:
                os.killpg(process.pid, each)
            else:
                process.send_signal(each)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
            return


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Process]:
    """Start it with an empty log, and stop it at the end as an operator does."""
    log.write_bytes(b"")
    process = start(command, log)
    try:
        yield process
    finally:
        stop(process)


def assert_runs(process: Process, log: Path) -> None:
    """A program that ended is not waited for."""
    ended = process.poll()
    assert ended is None, f"it ended with {ended}:\n{log.read_text()}"
