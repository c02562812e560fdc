"""A repository appears whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from export.errors import ExportError
from export.graphs import Graph
from export.repository import StagedVersion, next_version, publish, staged_version
from export.session import build_manifest
from serving.dataplane.tensors import Datatype, TensorSpec
from serving.model.manifest_json import load_manifest
from serving.model.repository import latest_version, versions
from training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.fixture
def existing(repository: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(repository, tmp_path / "existing" / "model_repository")


def staged_copy(repository: Path, tmp_path: Path, version: int) -> StagedVersion:
    """What `staged_version` would have written, without the time that takes."""
    directory = shutil.copytree(repository, tmp_path / "existing" / ".staged")
    models = tuple(path.name for path in directory.glob("stage_*"))
    for folder in directory.glob("*/1"):
        folder.rename(folder.with_name(str(version)))
    return StagedVersion(directory, version, models)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_export_lists_the_checksum_of_every_graph(repository: Path) -> None:
    manifest = load_manifest(repository, 1)
    assert dict(manifest.graphs) == {
        str(path.relative_to(repository)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in repository.glob("stage_*/1/model.onnx")
    }
    assert len(manifest.graphs) == 2


def test_nothing_is_left_beside_a_published_repository(repository: Path) -> None:
    assert [path.name for path in repository.parent.iterdir()] == [repository.name]


def test_nothing_is_left_of_an_export_that_fails(finished: Checkpoint, tmp_path: Path) -> None:
    model = finished.build_model()
    row = (TensorSpec("row", Datatype.FP32, (-1, 3)),)
    small = Graph("stage_2", torch.nn.Softmax(dim=1), (torch.zeros(2, 3),), row, row)
    target = tmp_path / "model_repository"
    with (
        pytest.raises(ExportError, match="parity"),
        staged_version([small], build_manifest(finished, model, {}), target) as staged,
    ):
        assert (staged.directory / "stage_2" / "1" / "model.onnx").is_file()
        assert not target.exists()
        raise ExportError("parity")
    assert list(tmp_path.iterdir()) == []


def test_the_next_version_joins_the_ones_before(
    repository: Path, existing: Path, tmp_path: Path
) -> None:
    before = snapshot(existing)
    assert next_version(existing) == 2
    publish(staged_copy(repository, tmp_path, 2), existing)
    assert versions(existing) == [1, 2]
    assert latest_version(existing) == 2
    assert before.items() <= snapshot(existing).items()


def test_what_an_operator_tuned_stays(repository: Path, existing: Path, tmp_path: Path) -> None:
    config = existing / "stage_1" / "config.pbtxt"
    tuned = config.read_text().replace("count: 2", "count: 7")
    config.write_text(tuned)
    publish(staged_copy(repository, tmp_path, 2), existing)
    assert "count: 7" in tuned
    assert config.read_text() == tuned
    assert latest_version(existing) == 2


def test_a_version_that_fails_half_way_is_taken_back(
    repository: Path, existing: Path, tmp_path: Path
) -> None:
    (existing / "stage_2" / "2").mkdir()
    (existing / "stage_2" / "2" / "something").write_text("in the way")
    before = snapshot(existing)
    with pytest.raises(ExportError, match="can't add a version"):
        publish(staged_copy(repository, tmp_path, 2), existing)
    assert snapshot(existing) == before
    assert versions(existing) == [1]


def test_a_model_of_another_shape_is_no_next_version(
    repository: Path, existing: Path, tmp_path: Path
) -> None:
    staged = staged_copy(repository, tmp_path, 2)
    config = staged.directory / "stage_1" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: 10", "dims: 11"))
    before = snapshot(existing)
    with pytest.raises(ExportError, match="other experts or shapes"):
        publish(staged, existing)
    assert snapshot(existing) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="is not a model repository"):
        next_version(tmp_path)
    with pytest.raises(ExportError, match="is not a model repository"):
        next_version(tmp_path / "notes.txt")


def test_graphs_too_large_for_one_file_have_no_self_routing_graph(
    existing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.repository._MOST_GRAPH_BYTES", 1_000)
    assert StagedVersion(existing, 1, ("stage_1", "stage_2")).write_self_routing() is None
    assert not (existing / "ride_graph").exists()
    assert latest_version(existing) == 1


def test_a_repository_of_before_gets_the_self_routing_graph(
    repository: Path, existing: Path, tmp_path: Path
) -> None:
    shutil.rmtree(existing / "ride_graph")
    publish(staged_copy(repository, tmp_path, 2), existing)
    assert (existing / "ride_graph" / "2" / "model.onnx").is_file()
    assert (existing / "ride_graph" / "config.pbtxt").is_file()
    assert (existing / "ride_graph" / "labels.txt").is_file()
