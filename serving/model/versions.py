"""The versions of a model as their manifests tell of them; no graph is loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import latest_version


@dataclass(frozen=True)
class ModelVersion:
    """A version's number and manifest."""

    number: int
    manifest: Manifest


class ModelVersions:
    """The versions in a model repository, each read when it is first asked for, and kept."""

    def __init__(self, repository: Path) -> None:
        """Read the latest one.

        Raises:
            ModelRepositoryError: if there is no repository here, or no version that can be read.
        """
        self._repository = repository
        self._known: dict[int, ModelVersion] = {}
        self._read(latest_version(repository))

    async def find(self, number: int) -> ModelVersion:
        """The version of this number.

        Raises:
            ModelRepositoryError: if it is not there, or can't be read.
        """
        if number not in self._known:
            await asyncio.to_thread(self._read, number)
        return self._known[number]

    def _read(self, number: int) -> None:
        self._known[number] = ModelVersion(number, load_manifest(self._repository, number))
