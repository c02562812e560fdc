"""Lists of files as people write them: what is read, by whom, and what is said of it."""

from __future__ import annotations

import io
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

from scoring.errors import InputError
from scoring.inputs.opening import open_inputs
from scoring.request import ScoringRequest
from scoring.session import score_session
from serving.model.routing import Routed
from tests.scoring.conftest import assert_answers
from tests.scoring.inputs.listed import opened, paths, read

Score = Callable[..., pa.Table]


def test_answers(score: Score, picture_folder: Path, expected: Routed) -> None:
    names = [path.name for path in sorted(picture_folder.iterdir())]
    text, table = picture_folder / "list.txt", picture_folder / "list.csv"
    text.write_text("\n".join([*names[:-1], str(picture_folder / names[-1])]) + "\n\n")
    assert_answers(score(text), expected)
    table.write_text("number,path\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names)))
    found = score(table, output=picture_folder / "out", labels="number")
    assert_answers(found, expected)
    assert found["id"].to_pylist()[:2] == [f"{table}#0", f"{table}#1"]
    assert found["true_index"].to_pylist() == list(range(48))


def test_each_line_of_a_list_is_a_row(score: Score, picture_folder: Path) -> None:
    listed = picture_folder / "list.csv"
    listed.write_text("file,y\n00.png,a\n,b\n00.png,\n")
    table = score(listed, labels="y")
    assert table["path"].to_pylist() == ["00.png", None, "00.png"]
    assert table["index"].to_pylist()[0] == table["index"].to_pylist()[2]
    assert table["error_kind"].to_pylist() == [None, "missing", None]


def test_files_may_be_called_as_missing_values_are(folder: Path) -> None:
    names = ["NA", "null", "NaN", "N/A", "None"]
    content = "path,label\n" + "".join(f"{name},{name}\n" for name in names)
    assert read(folder / "a.csv", content, labels="label") == list(zip(names, names, strict=True))
    assert paths(read(folder / "a.txt", "\n".join(names))) == names


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_separators(folder: Path, suffix: str, separator: str, end: str) -> None:
    path = folder / f"list{suffix}"
    rows = [["a.png", "x"], ["c d.png", ""], ["b.png", "0 5"]]
    expected = [("a.png", "x"), ("c d.png", None), ("b.png", "0 5")]
    body = end.join(map(separator.join, rows))
    assert read(path, f"path{separator}y{end}{body}", labels="y") == expected
    assert read(path, body + end, labels="2") == expected
    assert read(path, f"photo{separator}y{end}{body}", labels="y") == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a.png\nb.png\n", ["a.png", "b.png"]),
        ("a.png", ["a.png"]),
        ("path\na.png\n", ["a.png"]),
        ("IMAGE\na.png\n", ["a.png"]),
        ("photo\na.png\nb.png\n", ["a.png", "b.png"]),  # no file's name, above files' names
        ("photo\nNA\n", ["photo", "NA"]),  # it could be either, and no image may be lost
        ("path\ne,f.png\nk;l.png\n", ["e,f.png", "k;l.png"]),
        ('"e,f.png"\n"g""h.png"\n', ["e,f.png", 'g"h.png']),
        ("file_name,text\na.png,A dog. Or so.\n", ["a.png"]),
        ("a.png;0,5\nb.png;1,5\n", ["a.png", "b.png"]),
        ("a.png,x;y\nb.png,z\n", ["a.png", "b.png"]),
        ("0,a.png\n1,b.png\n", ["a.png", "b.png"]),
        ("a.png\nb.png,x\nc d.png,y\n", ["a.png", "b.png", "c d.png"]),
        ("class , Path \nx , a.png \n", ["a.png"]),
        ('path, text\na.png, "one, two"\n', ["a.png"]),
        ('path,text\na.png,"two\n# lines"\nb.png,\n', ["a.png", "b.png"]),
        ("path,text\na.png\nb.png,x,,\n,\n", ["a.png", "b.png", None]),
        ("\n\npath,text\n\na.png,x\n\n", ["a.png"]),
        ("path,file\na.png,b.png\n", ["a.png"]),
    ],
)
def test_tables(folder: Path, content: str, expected: list[str]) -> None:
    assert paths(read(folder / "list.csv", content)) == expected


def test_columns_by_name_and_number(folder: Path) -> None:
    two = folder / "two.csv"
    content = "Left,right,RIGHT,Class\na.png,b.png,c d.png,x\n"
    assert paths(read(two, content, "left")) == ["a.png"]
    assert paths(read(two, content, "right")) == ["b.png"]
    assert paths(read(two, content, "RIGHT")) == ["c d.png"]
    assert read(two, content, "3", "class") == [("c d.png", "x")]
    assert read(two, "a.png,2,x\nb.png,1,y\n", labels="2") == [("a.png", "2"), ("b.png", "1")]
    assert paths(read(two, "a.png,b.png\n", "2")) == ["b.png"]
    assert read(two, "path,3,2\na.png,x,y\n", labels="2") == [("a.png", "y")]
    assert read(two, "path\na.png\n", labels="path") == [("a.png", "a.png")]


def test_comments(folder: Path) -> None:
    text = "# made by hand\na.png\n#b.png\n#1.png\n"
    table = 'path,y\na.png,x\n# see "there", b.png\n#b.png,x\n#1.png,x\n'
    headless = '# a.png, "unless\na.png,x\n#1.png,y\n'
    for name, content, comments in (
        ("a.txt", text, 2),
        ("a.csv", table, 2),
        ("b.csv", "#path,y\n" + table.partition("\n")[2], 2),
        ("c.csv", headless, 1),
        ("d.csv", text, 2),
        ("e.csv", "# by hand\n" * 2000 + table, 2002),
        ("b.txt", "# image\n" + text, 3),
        ("g.csv", "y,path\nx,a.png\n# two,\nx,#1.png\n", 1),
    ):
        assert paths(read(folder / name, content)) == ["a.png", "#1.png"], name
        (listed,) = opened(folder / name, content, None, None).lists
        assert listed.comments == comments, name
    assert paths(read(folder / "f.csv", "id,path\n#1,a.png\n#2,b.png\n")) == ["a.png", "b.png"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "be+mark"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_encodings(folder: Path, suffix: str, encoding: str) -> None:
    def encoded(text: str) -> bytes:
        if encoding == "be+mark":
            return f"\ufeff{text}".encode("utf-16-be")
        return text.encode(encoding)

    names = ["a.png", "\u00e4\u2028.png", "b.png"]
    path = folder / f"list{suffix}"
    assert paths(read(path, encoded("\r\n".join(names)))) == names
    if suffix != ".txt":
        table = "PATH\ty\r\n" + "".join(f"{name}\tx\r\n" for name in names)
        assert read(path, encoded(table), labels="y") == [(name, "x") for name in names]


def test_quotes_in_text(folder: Path) -> None:
    content = "\"a.png\"\n'b.png'\ng\"h.png\ni'j.png\n'quoted.png'\n  c d.png \n"
    expected = ["a.png", "b.png", 'g"h.png', "i'j.png", "'quoted.png'", "c d.png"]
    assert paths(read(folder / "list.txt", content)) == expected


def test_how_a_list_was_read_is_said_and_kept(repository: Path, picture_folder: Path) -> None:
    table, text = picture_folder / "a.tsv", picture_folder / "b.txt"
    table.write_text("# two\nIMAGE\tY\n00.png\ta\n01.png\tb\n")
    text.write_text("02.png\n")
    output = picture_folder.parent / "out"
    request = ScoringRequest((str(table), str(text)), output, repository, labels=None, workers=1)
    with io.StringIO() as said:
        score_session(request, Console(file=said))
        lines = said.getvalue().splitlines()
    assert lines[:2] == [
        f"{table}: 2 rows, 1 comment left out, separated by tab, with a header, paths in 'IMAGE'",
        f"{text}: 1 row, a path a line",
    ]
    kept = json.loads((output / "_run.json").read_bytes())["inputs"]["lists"]
    assert kept == [
        {
            "list": str(table),
            "rows": 2,
            "comments": 1,
            "separator": "tab",
            "header": True,
            "column": "IMAGE",
            "labels": None,
        },
        {"list": str(text), "rows": 1, "comments": 0},
    ]


class Watched(io.BytesIO):
    """A file that knows which threads read it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.readers: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.readers.add(threading.get_ident())
        return super().read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        self.readers.add(threading.get_ident())
        return super().read1(size)

    def readinto(self, buffer: Any, /) -> int:
        self.readers.add(threading.get_ident())
        return super().readinto(buffer)


class WatchedFiles(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """Keeps what it opened."""

    protocol = "watched"
    opened: ClassVar[list[Watched]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("watched://")))

    def open(self, path: str, mode: str = "rb", **_: Any) -> Watched:
        self.opened.append(Watched(self.cat_file(path)))
        return self.opened[-1]


@pytest.fixture
def watched() -> Iterator[type[WatchedFiles]]:
    fsspec.register_implementation("watched", WatchedFiles, clobber=True)
    yield WatchedFiles
    MemoryFileSystem().rm("/lists", recursive=True)
    WatchedFiles.opened.clear()


@pytest.mark.parametrize(
    ("damage", "problem"), [("", None), ("a,b,c\n", "line 50002: 3 cells"), ('"a', "131,072")]
)
def test_a_list_is_opened_once_read_by_one_and_closed(
    watched: type[WatchedFiles], damage: str, problem: str | None
) -> None:
    """Two readers of one file lose rows: one moves where the other reads."""
    row = "memory://lists/a.png,1\n"
    content = "path,y\n" + row * 50_000 + damage + row * 50_000
    MemoryFileSystem().pipe({"/lists/a.csv": content.encode(), "/lists/a.png": b""})
    if problem is None:
        assert open_inputs(["watched://lists/a.csv"], None, None, 1000).images == 100_000
    else:
        with pytest.raises(InputError, match=problem):
            open_inputs(["watched://lists/a.csv"], None, None, 1000)
    (file,) = watched.opened
    assert file.closed
    assert file.readers == {threading.get_ident()}


def test_memory_does_not_grow_with_a_list(tmp_path: Path) -> None:
    """Besides the space of its letters, in Arrow's memory."""
    (tmp_path / "a.png").touch()
    with (tmp_path / "a.csv").open("w") as file:
        file.write("path,y\n")
        file.writelines(f"a.png,{i}\n" for i in range(60_000))
    tracemalloc.start()
    shards = open_inputs([str(tmp_path / "a.csv")], None, "y", 5000).shards
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(shards) == 12
    assert most < 8 * 2**20
