"""Running programs, and functions in processes of their own."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
        LoadFailed: if it raised an error: what failed, and why.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(work, arguments).get(timeout_s)
        except multiprocessing.TimeoutError:
            raise LoadTimedOut(f"{failed}: it took more than {timeout_s:g} s") from None
        except Exception as error:
            raise LoadFailed(f"{failed}: {error}") from error
