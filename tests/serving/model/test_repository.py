"""Where the files of a model lie, and which version is the latest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.errors import ModelRepositoryError
from serving.model.manifest_json import load_manifest
from serving.model.repository import (
    graph_path,
    latest_version,
    read_graph,
    versions,
)


def test_the_latest_version_is_the_highest_number_with_a_manifest(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "011", "v3", "\u0664"):
        (tmp_path / "ride" / name).mkdir(parents=True)
        (tmp_path / "ride" / name / "manifest.json").touch()
    (tmp_path / "ride" / "12").mkdir()
    assert versions(tmp_path) == [1, 2, 10]
    assert latest_version(tmp_path) == 10


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRepositoryError, match="there is no model repository .*nowhere"):
        latest_version(tmp_path / "nowhere")


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelRepositoryError, match="there is no model repository .*file"):
        latest_version(tmp_path / "file")


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelRepositoryError, match="holds no model: there is no ride/<version>/"):
        latest_version(tmp_path)


def test_a_version_that_is_not_there_is_named(repository: Path) -> None:
    with pytest.raises(ModelRepositoryError, match=r"ride/7/manifest.json can't be read"):
        load_manifest(repository, 7)


def test_a_graph_is_read_only_as_it_was_written(repository_copy: Path) -> None:
    version = latest_version(repository_copy)
    manifest = load_manifest(repository_copy, version)
    path = graph_path("stage_2", version)
    whole = (repository_copy / path).read_bytes()
    assert read_graph(repository_copy, manifest, path) == whole
    (repository_copy / path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelRepositoryError, match=re.escape(f"{path} was altered")):
        read_graph(repository_copy, manifest, path)
    (repository_copy / path).unlink()
    with pytest.raises(ModelRepositoryError, match=re.escape(f"{path} can't be read")):
        read_graph(repository_copy, manifest, path)
