"""Which run a folder holds: its inputs by where they are, and what they are like; its settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from scoring.errors import InputError, OutputError
from scoring.inputs.identity import InputFiles
from scoring.request import KeptFields, Routing, ScoringRequest
from scoring.session import score_session
from serving.images.accepted import AcceptedFormats
from tests.model_versions import add_version
from tests.scoring.conftest import as_layout_1, rows_of

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def two_folders(tmp_path: Path, pictures: tuple[bytes, ...]) -> tuple[Path, Path]:
    """Two folders with a folder `data` each, of as many other images of the same names."""
    folders = tmp_path / "a", tmp_path / "b"
    for number, folder in enumerate(folders):
        (folder / "data").mkdir(parents=True)
        for i in range(6):
            (folder / "data" / f"{i}.png").write_bytes(pictures[6 * number + i])
    return folders


def unfinish(output: Path, part: int) -> None:
    """Take a part away, and with it the end of the run."""
    (output / "_summary.json").unlink()
    sorted((output / "parts").iterdir())[part].unlink()


def test_the_same_words_elsewhere_are_another_run(
    score: Score, tmp_path: Path, two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two_folders
    for typed in ("data", "data/*.png", "data/0.png", "list.txt"):
        for folder in two_folders:
            (folder / "list.txt").write_text("data/0.png\n")
        output = tmp_path / typed.replace("/", " ")
        monkeypatch.chdir(a)
        before = score(typed, output=output)
        monkeypatch.chdir(b)
        with pytest.raises(OutputError, match=rf"other inputs \(\d new, such as {b}/.*{a}/"):
            score(typed, output=output)
        assert rows_of(output).equals(before)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_run_goes_on_however_its_inputs_are_named(
    score: Score,
    tmp_path: Path,
    two_folders: tuple[Path, Path],
    picture_parquet: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    """And all ids are as they were typed first."""
    a, b = two_folders
    (a / "list.txt").write_text("data/5.png\ndata/4.png\n")
    (tmp_path / "link").symlink_to(a)
    monkeypatch.chdir(a)
    expected = score("data", "list.txt", "../pictures.parquet", part_rows=6)
    assert expected["id"].to_pylist()[5:9:3] == ["data/5.png", "../pictures.parquet#0"]
    for folder, *typed in (
        (a, "./data/", "list.txt", picture_parquet),
        (b, a / "data", "../a/list.txt", "../pictures.parquet"),
        (tmp_path, "link/data/*.png", f"file://{a}/list.txt", "pictures.parquet"),
    ):
        monkeypatch.chdir(folder)
        unfinish(tmp_path / "out", part)
        output = Path(os.path.relpath(tmp_path / "out"))
        assert score(*typed, part_rows=6, output=output).equals(expected)
        assert Path.cwd() == folder
        assert score(*typed, part_rows=6).equals(expected)


def test_where_a_run_began_is_gone(
    score: Score, tmp_path: Path, two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, b = two_folders
    monkeypatch.chdir(b)
    score("../a/data")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(b)
    with pytest.raises(OutputError, match=rf"begun in {b}, where its inputs ../a/data are not"):
        score("a/data")


def test_a_file_that_is_named_in_two_ways_is_scored_once(
    score: Score, two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = two_folders
    monkeypatch.chdir(a)
    (a / "link").symlink_to("data")
    table = score("data", "./data", a / "data", "link/*", f"file://{a}/data/0.png")
    assert table["id"].to_pylist() == [f"data/{i}.png" for i in range(6)]


def test_an_output_inside_the_inputs_is_no_input(
    call_ride: Ride, tmp_path: Path, two_folders: tuple[Path, Path]
) -> None:
    data, said = two_folders[0] / "data", []
    for name, typed in (
        ("first", data),
        ("first", data),
        ("first", f"{data}/**"),
        ("deep/second", data),
        ("glob", f"{data}/**/*.p*"),
    ):
        done = call_ride("score", typed, "--output", data / name, "--part-rows", 3, "--json", "-")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["images"] == 6
        assert len(rows_of(data / name)) == 6
        said.append("left out: " in done.stderr)
        if name == "deep/second":
            as_layout_1(data / "first")
    assert said == [False, True, True, True, True]
    assert "left out: 4 files that ride score wrote itself" in done.stderr
    assert json.loads(done.stdout)["left_out"]["scored_parts"] == 4


def test_a_part_that_is_named_lists_its_images(
    score: Score, tmp_path: Path, picture_folder: Path
) -> None:
    expected = score(picture_folder)
    (part,) = (tmp_path / "out" / "parts").iterdir()
    again = score(part, output=tmp_path / "again")
    assert again["path"].equals(expected["path"])
    assert again["label"].equals(expected["label"])
    with pytest.raises(InputError, match="nothing to score"):
        score(tmp_path / "out", output=tmp_path / "again")


def test_images_of_the_same_names_that_were_replaced(
    score: Score, tmp_path: Path, picture_folder: Path, pictures: tuple[bytes, ...]
) -> None:
    expected = score(picture_folder)
    replaced = picture_folder / "07.png"
    sizes = len(pictures[7]), len(pictures[7] + b"\0" * 9)
    replaced.write_bytes(pictures[7] + b"\0" * 9)
    problem = rf"written anew .*: {replaced} \({sizes[0]} bytes, now {sizes[1]}\); --resume goes on"
    with pytest.raises(OutputError, match=problem):
        score(picture_folder)
    for i in (3, 7):
        (picture_folder / f"{i:02}.png").write_bytes(pictures[i])
        os.utime(picture_folder / f"{i:02}.png", ns=(0, 1))
    problem = rf"written anew .*: {picture_folder}/03.png \(of the same size\) and 1 more"
    with pytest.raises(OutputError, match=problem):
        score(picture_folder)
    assert score(picture_folder, resume=True).equals(expected)
    assert score(picture_folder).equals(expected)


def test_images_of_a_list_that_were_replaced(
    score: Score, tmp_path: Path, picture_folder: Path, pictures: tuple[bytes, ...]
) -> None:
    named = tmp_path / "list.csv"
    names = [f"pictures/{i:02}.png" for i in range(12)]
    named.write_text("\n".join(["path", *names, "gone.png", f"file://{picture_folder}/12.png", ""]))
    expected = score(named, part_rows=5)
    assert score(f"file://{named}", part_rows=5).equals(expected)
    for i in (7, 12):
        (picture_folder / f"{i:02}.png").write_bytes(pictures[i])
        os.utime(picture_folder / f"{i:02}.png", ns=(0, 1))
        problem = rf"written anew .*: {named} \(files that it names\); --resume goes on"
        with pytest.raises(OutputError, match=problem):
            score(named, part_rows=5)
        assert score(named, part_rows=5, resume=True).equals(expected)
    assert score(named, part_rows=5).equals(expected)


def test_a_run_that_knows_nothing_of_the_files_of_its_list_goes_on(
    score: Score, tmp_path: Path, picture_folder: Path
) -> None:
    (tmp_path / "list.txt").write_text("pictures/00.png\n")
    expected, path = score(tmp_path / "list.txt"), tmp_path / "out" / "_inputs.arrow"
    begun = InputFiles.read(path)
    earlier = [each.rpartition(" ")[0] for each in begun.stamps.to_pylist()]
    InputFiles(begun.places, pa.array(earlier)).write(path)
    assert score(tmp_path / "list.txt").equals(expected)


def test_containers_that_were_written_anew(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    expected = score(picture_parquet, part_rows=10)
    unfinish(tmp_path / "out", 1)
    picture_parquet.write_bytes(picture_parquet.read_bytes())
    problem = rf"written anew .*{picture_parquet} \(of the same size\); --resume goes on"
    with pytest.raises(OutputError, match=problem):
        score(picture_parquet, part_rows=10)
    assert score(picture_parquet, part_rows=10, resume=True).equals(expected)
    pa.parquet.write_table(pa.parquet.read_table(picture_parquet).slice(9), picture_parquet)
    known = (tmp_path / "out" / "_inputs.arrow").read_bytes()
    with pytest.raises(OutputError, match="hold other numbers of images than when it began"):
        score(picture_parquet, part_rows=10, resume=True)
    assert (tmp_path / "out" / "_inputs.arrow").read_bytes() == known


def test_files_that_came_and_went(score: Score, tmp_path: Path, picture_folder: Path) -> None:
    score(picture_folder)
    (picture_folder / "00.png").rename(picture_folder / "99.png")
    new, gone = (f"such as {picture_folder}/{name}.png" for name in (99, "00"))
    moved = rf"1 new, {new}, and 1 gone, {gone}"
    with pytest.raises(OutputError, match=rf"other inputs \({moved}\): name another folder"):
        score(picture_folder)


def test_inputs_in_another_order(score: Score, picture_folder: Path) -> None:
    first, second = picture_folder / "00.png", picture_folder / "01.png"
    score(first, second)
    with pytest.raises(OutputError, match=r"other inputs \(the same in another order\)"):
        score(second, first)


def test_the_setting_that_differs_is_named(
    score: Score, tmp_path: Path, picture_parquet: Path, picture_folder: Path
) -> None:
    before = score(picture_parquet)
    settings: tuple[tuple[str, dict[str, object]], ...] = (
        ("(--labels was not given, now class)", {"labels": "class"}),
        ("(--part-rows was 5000, now 7)", {"part_rows": 7}),
        ("(--max-experts was not given, now 2)", {"routing": Routing(max_experts=2)}),
        ("(--quality was not given, now fast)", {"routing": Routing(quality="fast")}),
        ("(--formats was not given, now png)", {"accepted": AcceptedFormats(("png",))}),
        (
            "(--top-k was 5, now 3; --embeddings was not given, now given)",
            {"kept": KeptFields(3, embeddings=True)},
        ),
    )
    for problem, given in settings:
        with pytest.raises(OutputError) as refused:
            score(picture_parquet, **given)
        assert f"holds a run with other settings {problem}: name another" in str(refused.value)
    assert rows_of(tmp_path / "out").equals(before)
    table = score(picture_folder, overwrite=True)
    assert table["id"].to_pylist()[0] == f"{picture_folder}/00.png"
    assert len(table) == 48


def test_a_setting_that_only_the_run_has_is_named(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet)
    path = tmp_path / "out" / "_run.json"
    run = json.loads(path.read_bytes())
    run["settings"]["some_kinds"] = ["png", "gif"]
    path.write_text(json.dumps(run))
    with pytest.raises(OutputError, match=r"\(--some-kinds was png, gif, now not given\)"):
        score(picture_parquet)


def test_another_model_is_named(
    score: Score, tmp_path: Path, picture_parquet: Path, repository_copy: Path
) -> None:
    score(picture_parquet)
    add_version(repository_copy, 2)
    request = ScoringRequest(
        (str(picture_parquet),), tmp_path / "out", repository_copy, KeptFields(5)
    )
    with pytest.raises(OutputError, match=r"another model \(version was 1, now 2\)"):
        score_session(request, Console(quiet=True))


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0 and so on", None])
def test_what_is_known_of_inputs_was_altered(
    score: Score, tmp_path: Path, picture_parquet: Path, content: bytes | None
) -> None:
    expected, path = score(picture_parquet), tmp_path / "out" / "_inputs.arrow"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(OutputError, match=r"_inputs.arrow can't be read: .*--overwrite"):
        score(picture_parquet)
    assert score(picture_parquet, overwrite=True).equals(expected)
