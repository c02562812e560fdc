"""Every kind of input, here and behind URLs: the same pictures, the same answers, in order."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scoring.inputs.formats import input_format
from scoring.inputs.image_files import file_shards, sorted_paths
from scoring.inputs.opening import open_inputs
from scoring.records import FaultKind
from serving.engine.graphs import Engine
from serving.images.accepted import AcceptedFormats
from serving.model.routing import Routed
from tests.scoring.conftest import assert_answers

Score = Callable[..., pa.Table]
Pictures = tuple[bytes, ...]


def write_tar(path: Path, pictures: Pictures, mode: str = "w") -> Path:
    """Each picture and the name of a class, as WebDataset has it."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for i, picture in enumerate(pictures):
            for ending, content in (("png", picture), ("cls", f"{i}".encode())):
                member = tarfile.TarInfo(f"train/{i:02}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_a_folder(score: Score, picture_folder: Path, expected: Routed, engine: Engine) -> None:
    (picture_folder / "notes.txt").write_text("no image")
    table = score(picture_folder)
    assert_answers(table, expected)
    assert table["id"].to_pylist() == [f"{picture_folder}/{i:02}.png" for i in range(48)]
    assert table["path"] == table["id"]
    names = engine.manifest.class_names
    assert table["label"].to_pylist() == [names[i] for i in table["index"].to_pylist()]
    assert table["label"].to_pylist() == [labels[0] for labels in table["top_labels"].to_pylist()]


def file_names(table: pa.Table) -> list[str]:
    return [Path(each).name for each in table["id"].to_pylist()]


def test_other_formats_where_they_are_allowed(
    score: Score, tmp_path: Path, pictures: Pictures, expected: Routed
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    names = ("a.bmp", "b.TIF", "c.gif", "d.png", "e.avif", "f.jfif")
    for name, picture in zip(names, pictures, strict=False):
        kind = {"tif": "TIFF", "jfif": "JPEG"}.get(name[2:].lower(), name[2:].upper())
        Image.open(io.BytesIO(picture)).save(folder / name, kind)
    usual = score(folder)
    assert file_names(usual) == ["d.png", "e.avif", "f.jfif"]
    assert usual["error"].null_count == 3
    formats = AcceptedFormats(("png", "bmp", "tiff", "gif"))
    found = score(folder, accepted=formats, output=tmp_path / "others")
    assert file_names(found) == ["a.bmp", "b.TIF", "c.gif", "d.png"]
    assert found["error"].null_count == 4
    best = expected.probabilities.argmax(axis=1)
    assert [found["index"][row].as_py() for row in (0, 1, 3)] == best[[0, 1, 3]].tolist()


def test_a_file_that_is_named_has_any_ending_and_only_allowed_formats(
    score: Score, tmp_path: Path, pictures: Pictures
) -> None:
    file = tmp_path / "image.dat"
    Image.open(io.BytesIO(pictures[0])).save(file, "TIFF")
    (refused,) = score(file)["error"].to_pylist()
    assert refused.startswith("the bytes are a TIFF image, which is not accepted; send a JPEG")
    allowed = {"accepted": AcceptedFormats(("tiff",)), "output": tmp_path / "others"}
    assert score(file, **allowed)["error"].to_pylist() == [None]


def test_a_glob_and_files_that_are_named_twice(
    score: Score, picture_folder: Path, expected: Routed
) -> None:
    first, *_ = sorted(picture_folder.iterdir())
    assert_answers(score(first, f"{picture_folder}/*.png", picture_folder), expected)


def test_parquet(score: Score, picture_parquet: Path, expected: Routed) -> None:
    table = score(picture_parquet, part_rows=7)
    assert_answers(table, expected)
    assert table["id"].to_pylist() == [f"{picture_parquet}#{i}" for i in range(48)]


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_tar_shards(
    score: Score, tmp_path: Path, pictures: Pictures, expected: Routed, name: str, mode: str
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tar(shards / f"0-{name}", pictures[:20], mode)
    write_tar(shards / f"1-{name}", pictures[20:], mode)
    table = score(shards, labels="cls", part_rows=7)
    assert_answers(table, expected)
    assert table["path"].to_pylist()[:2] == ["train/00.png", "train/01.png"]
    assert table["true_index"].to_pylist() == [*range(20), *range(28)]


def test_names_need_not_be_unicode(score: Score, tmp_path: Path, pictures: Pictures) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xff[red].png", "wb") as file:  # noqa: PTH123
        file.write(pictures[0])
    table = score(folder)
    assert table["id"].to_pylist() == [f"{folder}/\\udcff[red].png"]
    assert table["error"].null_count == 1


def test_text_in_files_need_not_be_unicode(
    score: Score, tmp_path: Path, pictures: Pictures
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in ((b"\xff.png", pictures[0]), (b"\xff.cls", b"\xff")):
            member = tarfile.TarInfo(os.fsdecode(name))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    texts = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    image = pa.StructArray.from_arrays([pa.array([pictures[0]]), texts], ["bytes", "path"])
    pq.write_table(pa.table({"photo": image, "cls": texts}), tmp_path / "a.parquet")
    table = score(tmp_path / "a.tar", tmp_path / "a.parquet", labels="cls")
    assert table["path"].to_pylist() == ["\\udcff.png", "\\udcff"]
    assert table["true_index"].null_count == 2
    assert table["error"].null_count == 2


def test_labels_of_folders(score: Score, tmp_path: Path, pictures: Pictures) -> None:
    for i, name in enumerate(("apple", "worm", "no class")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(pictures[i])
    table = score(tmp_path / "data", labels="folder")
    assert table["true_label"].to_pylist() == ["apple", None, "worm"]
    assert table["true_index"].to_pylist() == [0, None, 99]


@pytest.fixture
def memory_folder(pictures: Pictures, picture_parquet: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for i, picture in enumerate(pictures):
        system.pipe(f"/scoring/pictures/{i:02}.png", picture)
    system.pipe("/scoring/pictures.parquet", picture_parquet.read_bytes())
    yield "memory://scoring"
    system.rm("/scoring", recursive=True)


def test_any_file_system_of_fsspec(score: Score, memory_folder: str, expected: Routed) -> None:
    table = score(f"{memory_folder}/pictures")
    assert_answers(table, expected)
    assert table["id"].to_pylist()[0] == "memory:///scoring/pictures/00.png"


def test_globs_and_parquet_behind_urls(
    score: Score, memory_folder: str, expected: Routed, tmp_path: Path
) -> None:
    table = score(f"{memory_folder}/pictures/*.png")
    assert_answers(table, expected)
    table = score(f"{memory_folder}/pictures.parquet", output=tmp_path / "parquet")
    assert_answers(table, expected)


def test_s3(score: Score, bucket: str, expected: Routed, tmp_path: Path) -> None:
    table = score(f"{bucket}/pictures")
    assert_answers(table, expected)
    assert table["id"].to_pylist()[0] == "s3://my-bucket/pictures/00.png"
    table = score(f"{bucket}/pictures.parquet", output=tmp_path / "parquet", part_rows=7)
    assert_answers(table, expected)


def test_shards_begin_anywhere(tmp_path: Path, picture_folder: Path, pictures: Pictures) -> None:
    """What a resumed run skips is just what it had read."""
    table = pa.table({"photo": pa.array(pictures)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=9)
    tar = write_tar(tmp_path / "a.tar", pictures)
    for source in (picture_folder, tmp_path / "a.parquet", tar):
        (shard,) = open_inputs([str(source)], None, None, 1000).shards
        whole = list(shard.read())
        assert [record.image for record in whole] == list(pictures)
        for skip in (0, 1, 8, 9, 10, 47, 48):
            assert list(shard.read(skip)) == whole[skip:]


def test_shards_can_be_sent_to_other_processes(
    tmp_path: Path, picture_folder: Path, picture_parquet: Path, pictures: Pictures
) -> None:
    """With nothing of the shards beside them."""
    (tmp_path / "list.csv").write_text("path\n" + "pictures/00.png\n" * 40)
    tar = write_tar(tmp_path / "a.tar", pictures)
    for source in (picture_folder, picture_parquet, tar, tmp_path / "list.csv"):
        for shard in open_inputs([str(source)], None, None, 10).shards:
            sent = pickle.dumps(shard)
            assert list(pickle.loads(sent).read()) == list(shard.read())
            assert len(sent) < 3000


def test_a_large_image_is_not_read_to_its_end(tmp_path: Path, score: Score) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(2**34)
    table = score(tmp_path / "large.png")
    assert table["error_kind"].to_pylist() == [FaultKind.TOO_LARGE]


def test_a_million_paths_take_little_memory() -> None:
    before = pa.total_allocated_bytes()
    paths = sorted_paths(f"images/{i:07}.png" for i in range(200_000))
    shards = file_shards(paths, 5000)
    assert pa.total_allocated_bytes() - before < 200_000 * 40
    assert len(shards) == 40
    assert np.sum([shard.rows for shard in shards]) == 200_000


@pytest.mark.parametrize(
    ("location", "suffix"),
    [
        ("https://host/a.csv?name=b.parquet", ".csv"),
        ("https://host/get?file=a.parquet", ".parquet"),
        ("s3://bucket/A.TAR.GZ", ".tar.gz"),
        ("a?.b.tar", ".tar"),
    ],
)
def test_a_format_is_known_by_the_end_of_its_path(location: str, suffix: str) -> None:
    assert suffix in input_format(location).suffixes
