"""A version appears whole, whatever was left of one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.model.publishing import next_number, publish_version
from serving.model.repository import versions

MODELS = ("ride", "ride_image", "stage_1")


def write(repository: Path, version: int, *models: str) -> Path:
    for model in models:
        folder = repository / model / str(version)
        folder.mkdir(parents=True)
        (folder / ("manifest.json" if model == "ride" else "file")).write_text(str(version))
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write(tmp_path / "repository", 1, *MODELS)


def test_what_a_crash_left_is_in_nobodys_way(repository: Path, tmp_path: Path) -> None:
    write(repository, 2, "stage_1")
    assert versions(repository) == [1]
    number = next_number(repository)
    assert number == 3
    publish_version(write(tmp_path / "staged", number, *MODELS), repository, number)
    assert versions(repository) == [1, 3]
    for model in MODELS:
        assert next((repository / model / "3").iterdir()).read_text() == "3"


def test_a_version_whose_manifest_has_no_place_is_taken_back(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "ride" / "2").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        publish_version(write(tmp_path / "staged", 2, *MODELS), repository, 2)
    assert versions(repository) == [1]
    assert list(repository.glob("*/2")) == [repository / "ride" / "2"]


def test_the_first_number_is_1(tmp_path: Path) -> None:
    assert next_number(tmp_path) == 1
