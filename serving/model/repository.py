"""Where the files of a model repository lie, and which versions are in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from serving.errors import ModelRepositoryError
from serving.model.manifest import MODEL_NAME, Manifest

FILE_NAME = "manifest.json"
GRAPH_FILE = "model.onnx"
_MAX_GRAPH_BYTES = 2 * 2**30


def graph_model(stage: int) -> str:
    """The name of a stage's graph (from 1) as a model."""
    return f"stage_{stage}"


def graph_models(num_experts: int) -> list[str]:
    """Names of the graphs' models, in the order in which an image meets them."""
    return [graph_model(stage) for stage in range(1, num_experts + 1)]


def graph_path(model: str, version: int) -> str:
    """A graph's path in the repository, with forward slashes."""
    return f"{model}/{version}/{GRAPH_FILE}"


def manifest_path(repository: Path, version: int) -> Path:
    """Where a version's manifest lies."""
    return repository / MODEL_NAME / str(version) / FILE_NAME


def versions(repository: Path) -> list[int]:
    """Whole versions in a repository, oldest first: those that have a manifest."""
    found = (repository / MODEL_NAME).glob(f"*/{FILE_NAME}")
    names = [path.parent.name for path in found]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def latest_version(repository: Path) -> int:
    """The version to serve.

    Raises:
        ModelRepositoryError: if there is no repository here, or no whole version in it.
    """
    if not repository.is_dir():
        raise ModelRepositoryError(
            f"there is no model repository {repository}: name the folder that ride export wrote, "
            "or model_repository in a checkout of ride-server, which holds the bundled model"
        )
    found = versions(repository)
    if not found:
        raise ModelRepositoryError(
            f"{repository} holds no model: there is no {MODEL_NAME}/<version>/{FILE_NAME}; "
            "ride export writes one"
        )
    return found[-1]


def read_graph(repository: Path, manifest: Manifest, path: str) -> bytes:
    """A graph's bytes, which are what the manifest says they are.

    Raises:
        ModelRepositoryError: if the file is missing or was altered.
    """
    try:
        if (repository / path).stat().st_size > _MAX_GRAPH_BYTES:
            raise ModelRepositoryError(f"{repository / path} is larger than 2 GiB")
        content = (repository / path).read_bytes()
    except OSError as error:
        raise ModelRepositoryError(f"{repository / path} can't be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != manifest.graphs[path]:
        raise ModelRepositoryError(
            f"{repository / path} was altered: its SHA-256 is not the one in the manifest"
        )
    return content
