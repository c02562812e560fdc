"""Inputs behind web servers, whether these send parts of files or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import InputError
from scoring.inputs.locations import join, open_file
from scoring.records import Fault, FaultKind
from serving.model.routing import Routed
from tests.running.web import WebServer, web_server
from tests.scoring.conftest import assert_answers
from tests.scoring.test_inputs import write_tar

Score = Callable[..., pa.Table]
Pictures = tuple[bytes, ...]


@pytest.fixture(params=[False, True], ids=["whole files only", "parts of files"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WebServer]:
    with web_server(tmp_path, parts=request.param) as server:
        yield server


def test_files_of_many_images(
    score: Score,
    web: WebServer,
    tmp_path: Path,
    picture_parquet: Path,
    pictures: Pictures,
    expected: Routed,
) -> None:
    write_tar(tmp_path / "a.tar", pictures)
    write_tar(tmp_path / "b.tar.gz", pictures, "w:gz")
    for i, name in enumerate((f"{picture_parquet.name}?signature=1", "a.tar", "b.tar.gz")):
        assert_answers(score(f"{web.url}/{name}", output=tmp_path / f"out-{i}"), expected)


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.txt"])
def test_lists(
    score: Score,
    web: WebServer,
    tmp_path: Path,
    picture_folder: Path,
    expected: Routed,
    name: str,
) -> None:
    paths = [f"pictures/{path.name}" for path in sorted(picture_folder.iterdir())]
    (tmp_path / name).write_text("\n".join(paths))
    assert_answers(score(f"{web.url}/{name}"), expected)


def test_addresses_that_a_list_on_the_web_names() -> None:
    base = "https://host/lists/all.csv?signature=a/b#part/1"
    for path, address in {
        "a.png": "https://host/lists/a.png",
        "../a.png": "https://host/a.png",
        "/img/a.png": "https://host/img/a.png",
        "file:/etc/passwd": "https://host/lists/file:/etc/passwd",
        "photo:1.png": "https://host/lists/photo:1.png",
        "s3://bucket/a.png": "s3://bucket/a.png",
        "https://other/a.png?b/c": "https://other/a.png?b/c",
    }.items():
        assert join(base, path) == address
    assert isinstance(join(base, "//[host/a.png"), Fault)


def test_paths_of_lists_and_parquet_behind_a_query(
    score: Score, web: WebServer, tmp_path: Path, picture_folder: Path, expected: Routed
) -> None:
    paths = [f"/pictures/{path.name}" for path in sorted(picture_folder.iterdir())]
    paths[::2] = [f"..{path}" for path in paths[::2]]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.csv").write_text("\n".join(["path", *paths]))
    pq.write_table(pa.table({"path": paths}), tmp_path / "lists" / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        address = f"{web.url}/lists/{name}?signature=1/2"
        assert_answers(score(address, output=tmp_path / f"out-{name}"), expected)


def test_what_is_behind_a_url_names_no_file_of_this_machine(
    score: Score, web: WebServer, tmp_path: Path, picture_folder: Path
) -> None:
    here = picture_folder / "00.png"
    ways = ("file://", "local://", "FILE://", "generic://file://", "simplecache::file://")
    paths = ["pictures/00.png", *(f"{way}{here}" for way in ways), str(here)]
    (tmp_path / "a.csv").write_text("\n".join(["path", *paths]))
    (tmp_path / "all.txt").write_text("\n".join(paths[1:-1]))
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet")
    barred = [FaultKind.UNREADABLE] * len(ways)
    for name in ("a.csv", "a.parquet"):
        table = score(f"{web.url}/{name}", output=tmp_path / f"out-{name}")
        assert table["error_kind"].to_pylist() == [None, *barred, FaultKind.MISSING]
        for reason in table["error"].to_pylist()[1:-1]:
            assert reason == "what is behind a URL may not name files of this machine"
    table = score(f"{web.url}/all.txt", output=tmp_path / "out-all")
    assert table["error_kind"].to_pylist() == barred


def test_images(
    score: Score, web: WebServer, tmp_path: Path, picture_folder: Path, expected: Routed
) -> None:
    urls = [f"{web.url}/pictures/{path.name}" for path in sorted(picture_folder.iterdir())]
    assert_answers(score(*urls), expected)
    (tmp_path / "list.txt").write_text(f"{urls[0]}\n{web.url}/gone.png\n")
    table = score(tmp_path / "list.txt", output=tmp_path / "listed")
    assert table["error_kind"].to_pylist() == [None, FaultKind.MISSING]


def test_a_list_of_urls_of_which_none_is_there(
    score: Score, web: WebServer, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(f"url\n{web.url}/a.png\n{web.url}/b.png\n")
    with pytest.raises(InputError, match="names no file that is there: 2 looked for"):
        score(tmp_path / "list.csv")


def test_a_file_stands_at_its_start(web: WebServer, tmp_path: Path) -> None:
    """Also after it was found out whether the server sends parts of it."""
    for content in (b"", b"x", bytes(range(256)) * 40):
        (tmp_path / "file").write_bytes(content)
        with open_file(f"{web.url}/file") as file:
            assert file.tell() == 0
            assert file.read() == content
            if content:
                file.seek(-1, 2)
                assert file.read() == content[-1:]


def test_a_file_that_is_not_there(web: WebServer) -> None:
    for name in ("gone.csv", "gone.tar"):
        with pytest.raises(InputError, match=f"there is no file {web.url}/{name}"):
            open_file(f"{web.url}/{name}")
