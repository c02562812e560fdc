"""The JSON file beside the page: one entry a section, so that any can be measured again alone."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.perf_analyzer import VERSION as PERF_ANALYZER
from benchmarks.process import machine

SCHEMA = 1
_PACKAGES = (
    "ride-server",
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "fastapi",
    "uvicorn",
    "grpcio",
    "torch",
)


@dataclass(frozen=True)
class Circumstances:
    """What a section was measured under.

    Attributes:
        date: the day, UTC.
        machine: processor, cores, instruction sets, memory.
        commit: of the source tree, marked `-dirty` where it has changes.
        command: as it was typed.
        versions: of Python and packages.
        load_before: the machine's 1-minute load average before the section began.
    """

    date: str
    machine: str
    commit: str
    command: str
    versions: dict[str, str]
    load_before: float


@dataclass
class Section:
    """One section's figures and their circumstances."""

    circumstances: Circumstances
    seconds: float
    data: dict[str, Any]


@dataclass
class Store:
    """All sections by name. `file` is rewritten whenever one is put."""

    file: Path
    sections: dict[str, Section] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path) -> Store:
        """Read what earlier runs measured; empty if the file is not there.

        Raises:
            BenchmarkError: if it is something else.
        """
        if not file.is_file():
            return cls(file)
        try:
            content = json.loads(file.read_bytes())
            if content["schema"] != SCHEMA:
                raise BenchmarkError(f"{file} is of another version of ride bench: remove it")
            sections = {
                name: Section(
                    Circumstances(**section["circumstances"]), section["seconds"], section["data"]
                )
                for name, section in content["sections"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BenchmarkError(f"{file} is damaged or not of ride bench: remove it") from None
        return cls(file, sections)

    def put(self, name: str, section: Section) -> None:
        """Keep a section, in place of an earlier one of that name."""
        self.sections[name] = section
        content = {
            "schema": SCHEMA,
            "sections": {
                name: {
                    "circumstances": vars(section.circumstances),
                    "seconds": section.seconds,
                    "data": section.data,
                }
                for name, section in self.sections.items()
            },
        }
        write_whole(self.file, json.dumps(content, indent=1) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is never there in part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def circumstances(command: str) -> Circumstances:
    """Of this moment."""
    versions = {"python": platform.python_version(), "perf_analyzer": PERF_ANALYZER}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Circumstances(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        machine=str(machine()),
        commit=_commit(),
        command=command,
        versions=versions,
        load_before=os.getloadavg()[0] if sys.platform != "win32" else 0.0,
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            check=False,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
