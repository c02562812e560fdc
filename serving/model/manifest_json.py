"""Reads `manifest.json`, which anyone may have written: a manifest, or what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from serving.errors import ModelRepositoryError
from serving.model.manifest import SCHEMA_VERSION, Gear, Manifest
from serving.model.repository import graph_models, graph_path, manifest_path
from serving.model.strict_json import STRICT, read_json

_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class _Head:
    """What tells whether the rest can be read."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore")
    schema_version: int


_HEAD = TypeAdapter(_Head)
_MANIFEST = TypeAdapter(Manifest)
_GEARS = TypeAdapter(dict[str, Gear], config=STRICT)


def load_manifest(repository: Path, version: int) -> Manifest:
    """Read and check a version's manifest.

    Raises:
        ModelRepositoryError: naming the file and what is wrong with it.
    """
    path = manifest_path(repository, version)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelRepositoryError(f"{path} is larger than any manifest")
        manifest = parse_manifest(path.read_bytes())
    except OSError as error:
        raise ModelRepositoryError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ModelRepositoryError(f"{path} is not a valid manifest: {error}") from None
    expected = {graph_path(name, version) for name in graph_models(manifest.num_experts)}
    if set(manifest.graphs) != expected:
        wrong = sorted(expected.symmetric_difference(manifest.graphs))
        raise ModelRepositoryError(f"{path} does not list the right graphs: {', '.join(wrong)}")
    return manifest


def parse_manifest(content: str | bytes) -> Manifest:
    """Build a manifest from the text of its file.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    schema_version = read_json(_HEAD, content).schema_version
    if 1 <= schema_version < SCHEMA_VERSION:
        raise ValueError(
            f"its schema_version is {schema_version}, from when a model was split into other "
            "graphs: export the run again with `ride export`"
        )
    if schema_version != SCHEMA_VERSION:
        raise ValueError(
            f"its schema_version is {schema_version}, and this server reads {SCHEMA_VERSION}"
        )
    return read_json(_MANIFEST, content)


def parse_gears(data: object) -> dict[str, Gear]:
    """Build gears from parsed JSON, an object of them by their names.

    Raises:
        ValueError: naming the field and what is wrong with it.
        TypeError: if it is no JSON.
    """
    return read_json(_GEARS, json.dumps(data))
