"""Where a model came from: versions, commit, machine, date."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from training.config import TrainingConfig
from training.device import ComputeDevice
from training.presets import PRESETS


def provenance(config: TrainingConfig, compute: ComputeDevice) -> dict[str, object]:
    """Plain values that a checkpoint carries on into the manifest."""
    return {
        "started": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": compute.name,
        "precision": str(compute.precision),
        "schedule": describe_schedule(config),
        "versions": {name: _version(name) for name in ("ride-server", "torch", "torchvision")},
    }


def describe_schedule(config: TrainingConfig) -> str:
    """Say whether the preset's schedule was kept."""
    published = PRESETS[config.preset].optimiser.epochs
    epochs = config.optimiser.epochs
    if epochs == published:
        return f"the preset's {published} epochs"
    kind = "shortened" if epochs < published else "lengthened"
    return f"{kind}: {epochs} epochs, the preset has {published}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """The commit of the source tree, marked where it has changes.

    Where the tree has left its repository, in a container say, SOURCE_COMMIT may tell; else
    `unknown`.
    """
    if told := os.environ.get("SOURCE_COMMIT"):
        return told
    try:
        commit = _git("describe", "--always", "--abbrev=12")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def _git(*arguments: str) -> str:
    """What git says; without optional locks it writes nothing, as `describe --dirty` does."""
    command = ["git", "--no-optional-locks", *arguments]
    folder = Path(__file__).parent
    done = subprocess.run(
        command, cwd=folder, capture_output=True, check=True, text=True, timeout=10
    )
    return done.stdout.strip()


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
