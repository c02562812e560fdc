"""Further versions of a model repository, made of its first one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.model.manifest_json import load_manifest
from serving.model.repository import FILE_NAME, manifest_path


def add_version(
    repository: Path, version: int, alter: Callable[[dict[str, Any]], object] = lambda _: None
) -> None:
    """Copy version 1, its manifest last and in one step, as `ride export` does."""
    manifest = load_manifest(repository, 1)
    for folder in repository.glob("*/1"):
        but_the_manifest = shutil.ignore_patterns(FILE_NAME)
        shutil.copytree(folder, folder.with_name(str(version)), ignore=but_the_manifest)
    content = json.loads(manifest.to_json())
    content["graphs"] = {
        path.replace("/1/", f"/{version}/"): digest for path, digest in content["graphs"].items()
    }
    alter(content)
    path = manifest_path(repository, version)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content))
    beside.rename(path)
