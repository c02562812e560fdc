"""What is wrong is named in one sentence, and what was written stays whole."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import InputError, OutputError
from scoring.inputs.locations import expand, read_image
from scoring.journal import locked
from scoring.records import Fault, FaultKind
from scoring.request import KeptFields
from serving.images.folders import Search
from tests.training.misfortunes import full_disk

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]


def test_an_image_that_cannot_be_scored_is_a_row_with_an_error(
    score: Score, tmp_path: Path, pictures: tuple[bytes, ...]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in (
        ("a.png", pictures[0]),
        ("b.png", b""),
        ("c.png", pictures[0][:200]),
        ("d.png", b"GIF89a and so on"),
        ("e.png", pictures[1]),
    ):
        (folder / name).write_bytes(content)
    listed = [*sorted(map(str, folder.iterdir())), "gone.png", "/dev/null", "/dev", "what://x"]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    table = score(tmp_path / "list.txt")
    kinds = table["error_kind"].to_pylist()
    unreadable = [FaultKind.MISSING, *[FaultKind.UNREADABLE] * 3]
    invalid = [FaultKind.EMPTY, FaultKind.INVALID, FaultKind.INVALID]
    assert kinds == [None, *invalid, None, *unreadable]
    errors = table["error"].to_pylist()
    assert errors[2] == "the PNG image is damaged or cut short; send the whole file"
    for column in ("label", "index", "probability", "top_labels", "experts_used", "router_scores"):
        present = [value is not None for value in table[column].to_pylist()]
        assert present == [kind is None for kind in kinds], column
    summary = json.loads((tmp_path / "out" / "_summary.json").read_bytes())
    assert (summary["images"], summary["answered"]) == (9, 2)
    assert summary["errors"] == {"empty": 1, "invalid_image": 2, "missing": 1, "unreadable": 3}


def test_nothing_but_errors_is_a_whole_run(score: Score, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"?")
    table = score(tmp_path / "a.png", kept=KeptFields(3, embeddings=True, all_probabilities=True))
    assert table.num_rows == 1
    for column in ("embedding", "probabilities", "top_labels"):
        assert table[column].to_pylist() == [None]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_damaged_row_group_costs_its_rows_only(
    score: Score, tmp_path: Path, pictures: tuple[bytes, ...], compression: str
) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"photo": pa.array(pictures)})
    pq.write_table(table, path, row_group_size=16, compression=compression, use_dictionary=False)
    chunk = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    kinds = score(path, part_rows=5)["error_kind"].to_pylist()
    assert kinds == [None] * 16 + [FaultKind.UNREADABLE] * 16 + [None] * 16


def test_a_tar_that_ends_early(score: Score, tmp_path: Path, picture_folder: Path) -> None:
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", picture_folder, "."], check=True)
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 2])
    table = score(tmp_path / "a.tar", part_rows=10)
    *kinds, last = table["error_kind"].to_pylist()
    assert last == FaultKind.UNREADABLE
    assert 10 < len(kinds) < 40
    assert set(kinds) <= {None, FaultKind.INVALID}
    assert "the tar file is damaged after" in table["error"].to_pylist()[-1]


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_inputs_that_cannot_be_scored_are_named(
    score: Score, tmp_path: Path, picture_parquet: Path, picture_folder: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 1000)
    (tmp_path / "empty.txt").write_text("\n\n")
    texts = write(tmp_path / "texts.parquet", label=["a"])
    pair = write(tmp_path / "pair.parquet", left=[b"a"], right=[b"b"])
    floats = write(tmp_path / "floats.parquet", photo=[b"a"], y=[0.5])
    rowless = write(tmp_path / "rowless.parquet", photo=pa.array([], pa.binary()))
    for source, settings, problem in (
        (tmp_path / "gone", {}, "there is no folder, file or glob .*gone"),
        (tmp_path / "gone.tar", {}, "there is no folder, file or glob .*gone.tar"),
        (tmp_path / "*.jpg", {}, "nothing to score"),
        (tmp_path / "empty", {}, "nothing to score: no images in .*empty"),
        (tmp_path / "empty.txt", {}, "nothing to score"),
        (rowless, {}, "nothing to score"),
        (tmp_path / "broken.tar", {}, "broken.tar is not a readable tar file: "),
        (tmp_path / "broken.parquet", {}, "is not a readable Parquet file"),
        (texts, {}, "has no column of encoded images .* it has 'label'"),
        (pair, {}, "has 2 columns of encoded images: 'left' .*; name one of them by --column"),
        (
            picture_parquet,
            {"column": "gone"},
            "has no column 'gone'; it has 'photo' .binary., 'class'",
        ),
        (
            picture_parquet,
            {"labels": "gone"},
            "no column 'gone' for --labels, .* it has .* 'class'",
        ),
        (floats, {"labels": "y"}, "column 'y' of .* holds double: labels are names or numbers"),
        (picture_folder, {"labels": "y"}, "image files have no column 'y': --labels folder"),
        (picture_folder, {"column": "y"}, "--column belongs to Parquet, CSV, TSV and tar files"),
        ("nothing://there", {}, "nothing:// is no file system that fsspec knows"),
        ("memory://gone", {}, "there is no folder, file or glob memory://gone"),
        ("http://127.0.0.1:9/a.parquet", {}, "http://127.0.0.1:9/a.parquet can't be read: "),
    ):
        with pytest.raises(InputError, match=problem):
            score(source, **settings)
        assert not (tmp_path / "out").exists()


def test_an_archive_without_images(score: Score, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path, "folder", recursive=False)
    with pytest.raises(InputError, match="nothing to score: no images in .*a.tar"):
        score(tmp_path / "a.tar")


def test_a_full_disk_leaves_whole_parts(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    expected = score(picture_parquet, output=tmp_path / "undisturbed", part_rows=20)
    largest = max(part.stat().st_size for part in (tmp_path / "undisturbed").glob("parts/part-*"))
    with full_disk(largest - 1), pytest.raises(OutputError, match="File too large; what is there"):
        score(picture_parquet, part_rows=20)
    assert not list((tmp_path / "out").glob(".part*"))
    assert score(picture_parquet, part_rows=20).equals(expected)


def test_an_output_that_cannot_be_written(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/scores")):
        with pytest.raises(OutputError, match="can't be written: "):
            score(picture_parquet, output=output)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "_run.json").write_text("{")
    with pytest.raises(OutputError, match=r"_run.json can't be read"):
        score(picture_parquet, output=tmp_path / "damaged")


@pytest.mark.parametrize("name", ["gone/summary.json", "folder", "/dev/null", "/proc/a.json"])
def test_a_place_for_json_that_cannot_be_written_is_named_before_the_work(
    call_ride: Ride, tmp_path: Path, picture_parquet: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    json_file, output = tmp_path / name, tmp_path / "out"
    for command in (
        ("score", picture_parquet, "--output", output, "--json"),
        ("compare", tmp_path / "neither", tmp_path / "nor", "--json"),
        ("evaluate", tmp_path / "none", "--data", tmp_path, "--predictions"),
    ):
        failed = call_ride(*command, json_file)
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"ride: {json_file}: ")
        assert not output.exists()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, who may read and write everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read_or_written(tmp_path: Path, pictures: tuple[bytes, ...]) -> None:
    with TemporaryDirectory() as name:  # `tmp_path` is below a folder of this user alone
        folder, closed = Path(name), Path(name) / "closed"
        (folder / "a.png").write_bytes(pictures[0])
        closed.mkdir()
        (closed / "b.png").write_bytes(pictures[0])
        for path, mode in ((folder / "a.png", 0), (closed, 0), (folder, 0o555)):
            path.chmod(mode)
        with as_nobody():
            fault = read_image(str(folder / "a.png"))
            assert fault == Fault(FaultKind.UNREADABLE, "the file can't be read: Permission denied")
            with pytest.raises(InputError, match="closed can't be listed: Permission denied"):
                list(expand(str(folder), Search((".png",))))
            with (
                pytest.raises(OutputError, match="out can't be written: Permission denied"),
                locked(folder / "out"),
            ):
                pass
        closed.chmod(0o755)
        folder.chmod(0o755)


def test_wishes_that_make_no_sense(call_ride: Ride, tmp_path: Path, picture_parquet: Path) -> None:
    for flags, problem in (
        (["--budget=4"], "--budget is a mean number of experts, between 1 and 3, not 4"),
        (["--budget=2", "--quality=fast"], "give one of --quality, --threshold and --budget"),
        (["--budget=2", "--max-experts=2"], "no --max-experts"),
        (["--quality=best"], "quality must be one of fast, balanced, full"),
        (["--threshold=2"], "--threshold must lie between 0 and 1"),
        (["--top-k=101"], "--top-k must lie between 1 and 100"),
    ):
        failed = call_ride("score", picture_parquet, "--output", tmp_path / "out", *flags)
        assert failed.returncode == 1, flags
        assert problem in failed.stderr
        assert failed.stderr.startswith("ride: ")
        assert not list((tmp_path / "out").glob("[!.]*")), flags
    failed = call_ride("score", picture_parquet, "--output", "s3://bucket/out")
    assert failed.returncode == 1
    assert "--output must be a folder of this machine" in failed.stderr
