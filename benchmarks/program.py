"""Running programs, and functions in processes of their own."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.errors import BenchmarkError, LoadFailed, LoadTimedOut

Result = TypeVar("Result")


@dataclass(frozen=True)
class Start:
    """A command, and what its environment has besides this one's."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def run(
    command: Sequence[str],
    failed: str,
    error: type[BenchmarkError],
    *,
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """What a program printed.

    Raises:
        LoadTimedOut: if it took too long.
        BenchmarkError: `error` if it failed: what failed, and the last line that it printed.
    """
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise LoadTimedOut(f"{failed}: it took more than {timeout_s:g} s") from None
    if done.returncode:
        raise error(f"{failed}: {last_line(done.stdout)}")
    return done.stdout


def last_line(output: str) -> str:
    """What a program said at the end, which is most often what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def in_own_process(
    work: Callable[..., Result], *arguments: Any, failed: str, timeout_s: float
) -> Result:
    """What a function returns in a new process, whose processor time is then the work's alone.

    Raises:
        LoadTimedOut: if it took too long.
        LoadFailed: if it raised an error, or its process died: what failed, and why.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, work, arguments), daemon=True)
    process.start()
    sender.close()  # so that the process's end is the only one, and its death the end of file
    try:
        if not receiver.poll(timeout_s):
            raise LoadTimedOut(f"{failed}: it took more than {timeout_s:g} s")
        result, error = receiver.recv()
    except EOFError:
        raise LoadFailed(f"{failed}: its process died") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise LoadFailed(f"{failed}: {error}")
    returned: Result = result
    return returned


def _send_result(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the new process: what the function returned, or what went wrong."""
    try:
        sender.send((work(*arguments), None))
    except Exception as error:  # noqa: BLE001 whatever it is, who waits is told
        sender.send((None, str(error) or repr(error)))
