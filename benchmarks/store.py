"""The JSON file beside the page: one entry a section, so that any can be measured again alone."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.checkout import CHECKOUT
from benchmarks.errors import BenchmarkError
from benchmarks.perf_analyzer import VERSION as PERF_ANALYZER
from benchmarks.process import hardware
from serving.files import replacing

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
class Provenance:
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
    """One section's figures, and where they come from."""

    circumstances: Provenance
    seconds: float
    data: dict[str, Any]


_SECTIONS = TypeAdapter(dict[str, Section])


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
            return cls(file, _SECTIONS.validate_python(content["sections"]))
        except (ValueError, KeyError, TypeError):
            raise BenchmarkError(f"{file} is damaged or not of ride bench: remove it") from None

    def put(self, name: str, section: Section) -> None:
        """Keep a section, in place of an earlier one of that name."""
        self.sections[name] = section
        content = {"schema": SCHEMA, "sections": _SECTIONS.dump_python(self.sections)}
        write_whole(self.file, json.dumps(content, indent=1) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a file, and its folder, so that it is never there in part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as whole:
        whole.write(text.encode())


def provenance(command: str) -> Provenance:
    """Of this moment."""
    versions = {"python": platform.python_version(), "perf_analyzer": PERF_ANALYZER}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Provenance(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        machine=str(hardware()),
        commit=_commit(),
        command=command,
        versions=versions,
        load_before=os.getloadavg()[0],
    )


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False, text=True)
    return done.stdout.strip() or "unknown"
