"""Which files of folders and globs are scored, here and behind URLs, and what is left out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from scoring.errors import InputError
from scoring.inputs.locations import expand
from scoring.inputs.opening import open_inputs
from serving.images.folders import Search
from serving.images.formats import IMAGE_SUFFIXES

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]

FILES = (
    *("a.png", "b.JPG", "c.jpeg", "d.jpe", "e.jfif", "f.webp", "g.avif"),
    *("h.gif", "i.tif", "j.bmp", "k.heic", "k.HEIC", "notes.txt", "README", "x.odd ending"),
    *(".hidden.png", "._a.png", "__MACOSX/._a.png", ".git/a.png", "sub/a.png", "sub/deeper/a.png"),
)
TAKEN = ["a.png", "b.JPG", "c.jpeg", "d.jpe", "e.jfif", "f.webp", "g.avif"]
TAKEN += ["sub/a.png", "sub/deeper/a.png"]
OTHER_ENDINGS = {
    ".heic": 2,
    ".bmp": 1,
    ".gif": 1,
    ".tif": 1,
    ".txt": 1,
    "no_ending": 1,
    "others": 1,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "data"


def found(location: str, above: object = "") -> tuple[list[str], dict[str, int]]:
    """What is taken, as it is named below a folder, each once, and what is left out."""
    search = Search(IMAGE_SUFFIXES, (".csv",))
    files = sorted(file.removeprefix(f"{above}/") for file in expand(location, search))
    assert len(set(files)) == len(files)
    return files, search.counts()


def test_a_folder_says_what_it_leaves_out(folder: Path) -> None:
    taken, left_out = found(str(folder), folder)
    assert taken == TAKEN
    assert left_out == OTHER_ENDINGS | {"hidden": 2, "macos_metadata": 2}


@pytest.mark.parametrize("ending", ["", "/", "/**"])
def test_a_glob_of_everything_is_the_folder(folder: Path, ending: str) -> None:
    taken, left_out = found(f"{folder}{ending}", folder)
    assert [name.removeprefix("/") for name in taken] == TAKEN
    assert left_out.items() >= OTHER_ENDINGS.items()


def test_globs_find_what_the_shell_would(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.csv").touch()
    monkeypatch.chdir(folder)
    below = ["sub/a.png", "sub/deeper/a.png"]
    for pattern, taken in (
        ("*.png", ["a.png"]),
        ("*", ["list.csv", *TAKEN]),
        ("su*", below),
        ("s*/*", below),
        ("*/*.png", ["sub/a.png"]),
        ("**/*.png", ["a.png", *below]),
        ("**/a.*", ["a.png", *below]),
        ("**/deep*", below[1:]),
        ("sub/**", below),
        ("s*/**/a.png", below),
        ("**/*.csv", ["list.csv"]),
        ("**", TAKEN),
        (".*.png", ["._a.png", ".hidden.png"]),
        (".git/**/*.png", [".git/a.png"]),
        ("**/.git/*", [".git/a.png"]),
        ("**/.hidden*", [".hidden.png"]),
        ("**/none*", []),
    ):
        names, _ = found(pattern)
        assert sorted(names) == sorted(taken), pattern
        names, _ = found(f"{folder}/{pattern}", folder)
        assert sorted(names) == sorted(taken), pattern
    assert found("*.heic") == ([], {".heic": 1})
    assert found("**/*.gif") == ([], {".gif": 1, "hidden": 1, "macos_metadata": 1})


def test_links_are_followed_and_lead_in_no_circle(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for name in ("data/z/a.png", "elsewhere/a.png", "elsewhere/below/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link, target in (
        ("a", "z"),
        ("loop", "."),
        ("z/loop", ".."),
        ("c", elsewhere / "below"),
        ("b", elsewhere),
        ("linked.png", "z/a.png"),
        ("gone.png", "nowhere.png"),
        ("self.png", "self.png"),
        ("gone", "nowhere"),
        ("null.png", "/dev/null"),
    ):
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    taken = ["b/a.png", "b/below/b.png", "linked.png", "z/a.png"]
    left_out = {"linked_again": 4, "dangling_link": 3, "no_regular_file": 2}
    assert found(str(folder), folder) == (taken, left_out)
    assert found(f"file://{folder}", f"file://{folder}") == (taken, left_out)
    assert found(f"{folder}/*", folder) == (taken, left_out)
    pngs = left_out | {"dangling_link": 2}
    assert found(f"{folder}/**/*.png", folder) == (taken, pngs)
    (tmp_path / "link").symlink_to(folder)
    assert found(str(tmp_path / "link"), tmp_path / "link") == (taken, left_out)


def test_file_systems_without_links_have_the_same_rule(folder: Path) -> None:
    (folder / "list.csv").touch()
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/folders", recursive=True)
    try:
        taken, left_out = found("memory://folders", "memory:///folders")
        assert taken == TAKEN
        assert left_out == OTHER_ENDINGS | {".csv": 1, "hidden": 2, "macos_metadata": 2}
        for pattern, names in (
            ("*.png", ["a.png"]),
            ("s*", ["sub/a.png", "sub/deeper/a.png"]),
            ("**/*.png", ["a.png", "sub/a.png", "sub/deeper/a.png"]),
            ("**", TAKEN),
            ("*.csv", ["list.csv"]),
            (".git/*.png", [".git/a.png"]),
        ):
            assert found(f"memory://folders/{pattern}", "memory:///folders")[0] == names, pattern
    finally:
        system.rm("/folders", recursive=True)


def test_many_kinds_of_endings_are_told_together() -> None:
    search = Search((".png",))
    for i in range(100):
        assert not search.takes(f"a.x{i}")
    assert not search.takes("a.often")
    assert not search.takes("a.often")
    assert sum(search.counts().values()) == 102
    assert search.counts()[".often"] == 2
    assert len(search.counts()) == 21


def test_nothing_but_other_files_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no images in .*\*\.heic; left out: \.heic 1$"):
        open_inputs([f"{folder}/*.heic"], None, None, 10)


def test_the_summary_names_what_was_left_out(
    call_ride: Ride, tmp_path: Path, picture_folder: Path
) -> None:
    for name in ("a.gif", "b.gif", ".hidden.png"):
        (picture_folder / name).touch()
    left_out = {".gif": 2, "hidden": 1}
    command = ("score", picture_folder, "--output", tmp_path / "out", "--part-rows", 20)
    printed = call_ride(*command)
    assert "left out: .gif" in printed.stdout
    assert json.loads((tmp_path / "out" / "_summary.json").read_bytes())["left_out"] == left_out
    assert "left out: .gif" in call_ride(*command).stdout  # it is finished already
    min((tmp_path / "out" / "parts").iterdir()).unlink()
    (tmp_path / "out" / "_summary.json").unlink()
    resumed = call_ride(*command)
    assert "left out: .gif" in resumed.stdout
    assert "48" in resumed.stdout
    assert json.loads((tmp_path / "out" / "_summary.json").read_bytes())["left_out"] == left_out
