"""Lists that fit nothing, or are damaged: an error before scoring says what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoring.errors import InputError
from tests.scoring.inputs.listed import opened


@pytest.mark.parametrize(
    ("name", "content", "asked", "problem"),
    [
        ("a.csv", "left,right\na,b\n", {}, "none of the columns path, .*its first row is left, r"),
        ("a.csv", "l,r\na.png,b.png\n", {}, "none of the columns path, .* number; it has l, r"),
        ("a.csv", "path,y\na.png,x\n", {"column": "z"}, "has no column 'z'; it has path, y"),
        ("a.csv", "path,y\na.png,x\n", {"column": "3"}, "has no column '3'; it has path, y"),
        ("a.csv", "path\na.png\n", {"labels": "y"}, "no column 'y' for --labels; it has path"),
        ("a.csv", "a.png,cat\nb.png,dog\n", {"labels": "cat"}, "no column 'cat' for --labels; "),
        ("a.csv", "path,Y,Y\na.png,x,z\n", {"labels": "y"}, "has 2 columns 'y' for --labels"),
        ("a.txt", "a.png\n", {"labels": "y"}, "list without columns: .* take CSV and TSV"),
        ("a.csv", "path,y\na.png,1\nb,c,d,e\n", {}, "line 3: 4 cells, and there are 2 columns"),
        ("a.csv", "path,y\n" + "a.png,1\n" * 999 + '"b.png\n', {}, "line 1001: unexpected end of"),
        ("a.csv", 'path,y\n"a".png,1\n', {}, "line 2: .* expected after .* is written twice"),
        ("a.csv", 'path,y\n"' + "a.png,1\n" * 99_999, {}, "a row of 131,072 characters or more"),
        ("a.csv", 'path,y\n"' + f"{'x' * 9999}\n" * 99, {}, "a row of 131,072 characters or more"),
        ("a.csv", '"' + f"{'x' * 9999}\n" * 99, {}, "a row of 131,072 characters or more"),
        ("a.csv", b"path\n" + b"x" * 2**20, {}, "line 2: a row of 131,072 characters or more"),
        ("a.txt", b"x" * 2**20, {}, "line 1: a row of 131,072 characters or more"),
        ("a.csv", b"path,y\na.png\0,1\n", {}, "line 2: a zero byte: it is no text"),
        ("a.txt", b"\xe4.png\n", {}, "it is neither UTF-8 nor UTF-16"),
        ("a.csv", b"path\n\xe4.png\n", {}, "it is neither UTF-8 nor UTF-16"),
        ("a.csv", "path\na.png\n".encode("utf-16")[:-1], {}, "it is neither UTF-8 nor UTF-16"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, "it is neither UTF-8 nor UTF-16"),
        ("a.csv", "", {}, "nothing to score: .*a.csv names no images"),
        ("a.csv", "path,label\n", {}, "nothing to score: .*a.csv names no images"),
        ("a.tsv", "# only this\n \n", {}, "nothing to score|names no file"),
        ("a.txt", "\n\n", {}, "nothing to score: .*a.txt names no images"),
        ("a.csv", "path,y\n,1\n,2\n", {}, "names no file that is there: 0 looked for. It was"),
        (
            "a.txt",
            "a.png 1\nb.png 2\n",
            {},
            "2 looked for, such as 'a.png 1'. It was read as a path a line: if it is",
        ),
        (
            "a.csv",
            "a.png:1\nb.png:2\n",
            {},
            "such as 'a.png:1'. It was read as one column, without a header, paths in column 1",
        ),
        (
            "a.csv",
            "path;y\nx.png;1\n",
            {"labels": "y"},
            "separated by semicolon, with a header, paths in 'path', labels in 'y'",
        ),
    ],
)
def test_what_fits_nothing_is_refused_before_scoring(
    folder: Path, name: str, content: str | bytes, asked: dict[str, str], problem: str
) -> None:
    settings = {"column": None, "labels": None, **asked}
    with pytest.raises(InputError, match=problem):
        opened(folder / name, content, **settings)


def test_paths_that_start_at_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "lists").mkdir()
    with pytest.raises(InputError, match="move it to the working directory, where these are"):
        opened(folder / "lists" / "a.txt", "a.png\n", None, None)


def test_one_file_that_is_there_is_enough(folder: Path) -> None:
    content = "".join(f"gone/{i}.png\n" for i in range(199)) + "a.png\n"
    assert opened(folder / "a.txt", content, None, None).images == 200
