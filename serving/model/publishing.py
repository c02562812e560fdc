"""A version joins a model repository whole or not at all.

It is written elsewhere on the same file system, and its folders are then renamed, that with the
manifest last: a version without a manifest is not there for anybody. What a crash leaves in between
keeps its number, so that it is in nobody's way.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from serving.model.manifest import MODEL_NAME, Manifest
from serving.model.repository import manifest_path


def next_number(repository: Path) -> int:
    """One above every version that is there of any model, whole or not; 1 if there is none."""
    names = {path.name for path in repository.glob("[!.]*/*") if path.is_dir()}
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1


def write_manifest(repository: Path, version: int, manifest: Manifest) -> None:
    """Write a version's manifest into its folder, which is made if need be."""
    path = manifest_path(repository, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest.to_json(), encoding="utf-8")


def publish_version(staged: Path, repository: Path, version: int) -> None:
    """Move a version from one repository into another that has its models, but not this version.

    Raises:
        OSError: if a folder can't be moved; those that were are gone then.
    """
    models = [folder.parent.name for folder in staged.glob(f"*/{version}")]
    moved: list[Path] = []
    try:
        for model in sorted(models, key=MODEL_NAME.__eq__):
            place = repository / model / str(version)
            (staged / model / str(version)).rename(place)
            moved.append(place)
    except BaseException:
        for place in moved:
            shutil.rmtree(place, ignore_errors=True)
        raise
