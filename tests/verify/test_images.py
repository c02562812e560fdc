"""Where images come from, and that they are taken a few at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.inputs import locations
from serving.engine.graphs import Engine
from serving.images.decode import ImageLimits
from tests.verify.conftest import EXAMPLES
from verify.decoding import decoded_batches
from verify.errors import VerificationError
from verify.images import NamedImage, open_images
from verify.responses import Rejection


def test_a_folder_is_searched_with_all_folders_in_it(tmp_path: Path) -> None:
    for name in ("b/z.JPG", "b/a.webp", "a.png", "notes.txt", "c.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    source = open_images(tmp_path)
    assert [image.name for image in source] == ["a.png", "b/a.webp", "b/z.JPG", "c.jpeg"]
    assert [image.data.decode() for image in source] == [image.name for image in source]
    assert len(source) == 4


def test_one_file_is_an_image_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"?")
    assert list(open_images(tmp_path / "upload")) == [NamedImage("upload", b"?")]


def test_names_can_be_printed(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\x1b[31m\n\xff.png")).touch()
    ((name),) = [image.name for image in open_images(tmp_path)]
    assert name == "a\\x1b[31m\\n\ufffd.png"


def test_a_large_file_is_cut_off_behind_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "LIMITS", ImageLimits(max_bytes=10))
    (tmp_path / "a.png").write_bytes(b"x" * 100)
    assert [len(image.data) for image in open_images(tmp_path)] == [11]


def write(where: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), where)
    return where


FILES = pa.array([b"one", None, b"three"])
STRUCTS = pa.array(
    [{"bytes": b"1", "path": None}, {"bytes": None, "path": "x"}, None],
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
)
TEXTS = pa.array(["a", "b", "c"])


def test_the_column_of_images_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"2")  # as `datasets` writes an image that it does not embed
    for column, expected in ((FILES, [b"one", b"", b"three"]), (STRUCTS, [b"1", b"2", b""])):
        source = open_images(write(tmp_path / "a.parquet", label=TEXTS, photo=column))
        assert [image.data for image in source] == expected
        assert [image.name for image in source] == ["row 0", "row 1", "row 2"]
        assert len(source) == 3


def test_rows_go_on_over_batches_and_row_groups(tmp_path: Path) -> None:
    table = pa.table({"photo": [str(i).encode() for i in range(500)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=150)
    found = list(open_images(tmp_path / "a.parquet"))
    assert found == [NamedImage(f"row {i}", str(i).encode()) for i in range(500)]


def test_one_of_several_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", left=FILES.slice(2), right=STRUCTS.slice(2))
    assert [image.data for image in open_images(path, "left")] == [b"three"]
    with pytest.raises(VerificationError, match="has 2 columns .* 'left' .*, 'right' .*; name one"):
        open_images(path)
    with pytest.raises(VerificationError, match="has no column 'middle'; it has 'left' .binary."):
        open_images(path, "middle")


def test_images_in_lists_and_in_fields_are_named_by_their_place(tmp_path: Path) -> None:
    rows = pa.array([{"images": [b"1", b"2"]}, None], pa.struct([("images", pa.list_(FILES.type))]))
    source = open_images(write(tmp_path / "a.pq", sample=rows), "sample.images")
    assert list(source) == [
        *(NamedImage("row 0.0", b"1"), NamedImage("row 0.1", b"2"), NamedImage("row 1", b""))
    ]
    assert len(source) == 3


def test_a_column_of_paths_is_read_and_a_missing_file_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    source = open_images(write(tmp_path / "a.parquet", path=TEXTS))
    found = iter(source)
    assert next(found) == NamedImage("row 0", b"1")
    with pytest.raises(VerificationError, match="row 1: there is no such file"):
        next(found)


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    write(tmp_path / "texts.parquet", label=TEXTS)
    write(tmp_path / "empty.parquet", photo=FILES[:0])
    for name, problem in (
        ("", "no file below .* ends in .jpg.*; left out: .parquet 3, .txt 1"),
        ("gone", "there is no folder or file"),
        ("broken.parquet", "is not a readable Parquet file"),
        ("texts.parquet", "has no column of encoded images .* it has 'label'"),
        ("empty.parquet", "has no rows"),
    ):
        with pytest.raises(VerificationError, match=problem):
            open_images(tmp_path / name)
    with pytest.raises(VerificationError, match="--column belongs to a Parquet file"):
        open_images(EXAMPLES, "img")


def test_parts_are_bounded_and_taken_one_by_one(engine: Engine) -> None:
    data = next(EXAMPLES.glob("*.png")).read_bytes()
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield NamedImage(f"row {taken}", data)

    batches = decoded_batches(endless(), engine.manifest.image)  # type: ignore[arg-type]
    assert [len(next(batches)) for _ in range(2)] == [256, 256]
    assert taken == 512
    heavy = (NamedImage("heavy", bytes(30 * 2**20)) for _ in range(5))
    assert [len(batch) for batch in decoded_batches(heavy, engine.manifest.image)] == [3, 2]


def test_an_image_that_cannot_be_decoded_has_a_reason(engine: Engine) -> None:
    ((broken,),) = decoded_batches([NamedImage("a", b"?")], engine.manifest.image)
    assert isinstance(broken.pixels, Rejection)
    assert "the bytes are text, which is not accepted" in broken.pixels.reason
