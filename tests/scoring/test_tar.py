"""Tar shards as people have them: a row for each image, whatever its name and kind."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scoring.inputs import unique_names
from scoring.inputs.opening import open_inputs
from scoring.inputs.unique_names import UniqueNames
from scoring.records import Fault, FaultKind
from tests.scoring.tar_files import BLOCK, COMPRESSIONS, TEN, WHOLE, archive, images, read


@pytest.fixture
def tar(tmp_path: Path) -> Callable[..., Path]:
    def write(*members: tuple[str, bytes]) -> Path:
        (tmp_path / "a.tar").write_bytes(archive(*members))
        return tmp_path / "a.tar"

    return write


def test_each_image_of_a_key_is_a_row(tar: Callable[..., Path]) -> None:
    members = [
        *(("22.05.png", b"1"), ("22.06.png", b"2"), ("a.left.png", b"3"), ("a.right.PNG", b"4")),
        *(("d/.a.png", b"5"), ("d/.b.png", b"6"), ("d/.png", b"7"), ("b.jpg", b"8")),
        *(("b.jpg", b"9"), ("b.jfif", b"10"), ("22.05.png", b"11")),
    ]
    records = read(tar(*members))
    assert images(records) == members
    assert records[0].id.endswith("/a.tar#22.05.png")
    assert records[8].id.endswith("/a.tar#b.jpg#8")
    assert records[10].id.endswith("/a.tar#22.05.png#10")


def test_the_endings_of_the_accepted_formats_are_images(tar: Callable[..., Path]) -> None:
    path = tar(("a.bmp", b"1"), ("b.png", b"2"), ("c.GIF", b"3"))

    def found(*suffixes: str) -> list[tuple[str | None, object]]:
        (shard,) = open_inputs([str(path)], None, None, 1000, suffixes).shards
        return images(list(pickle.loads(pickle.dumps(shard)).read()))

    assert found(".png", ".bmp", ".gif") == [("a.bmp", b"1"), ("b.png", b"2"), ("c.GIF", b"3")]
    gone = FaultKind.MISSING
    assert found(".bmp") == [("a.bmp", b"1"), ("b", gone), ("c", gone)]


def test_labels_belong_to_all_images_of_a_sample_or_to_one(tar: Callable[..., Path]) -> None:
    path = tar(
        ("22.05.cls", b"5"),
        ("22.05.png", b"a"),
        ("22.06.png", b"b"),
        ("22.06.cls", b"6"),
        ("a.cls", b"7\n"),
        ("a.left.png", b"c"),
        ("a.right.png", b"d"),
        ("b.png", b"e"),
        ("b.json", b"{}"),
        ("b.cls", b"8"),
        ("c.png", b"f"),
        ("d.cls", b"9"),
    )
    records = read(path, labels="cls")
    assert [each.label for each in records] == ["5", "6", "7", "7", "8", None, "9"]
    assert images(records)[-1] == ("d", FaultKind.MISSING)
    picked = read(path, labels="cls", column="left.png")
    assert images(picked)[1] == ("a.left.png", b"c")
    assert [each.label for each in picked] == [None, "7", "8", None, "9"]


def test_a_sample_of_any_size_takes_little_memory(tar: Callable[..., Path]) -> None:
    """Its images wait for labels, but not all of them at once."""
    members = [(f"22.{i}.png", b"%d" % i) for i in range(500)]
    labelled = [each for name, content in members for each in ((name[:-3] + "cls", content),)]
    pairs = [each for pair in zip(members, labelled, strict=True) for each in pair]
    records = read(tar(*pairs), labels="cls")
    assert images(records) == members
    assert [each.label for each in records] == [str(i) for i in range(500)]


def test_images_that_wait_for_a_label_are_bounded_in_bytes(
    tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoring.inputs.webdataset._MOST_WAITING_BYTES", 25)
    members = [(f"a.{i}.png", b"ten bytes%d" % i) for i in range(5)]
    records = read(tar(*members, ("a.cls", b"7")), labels="cls")
    assert images(records) == members
    assert [each.label for each in records] == [None, None, None, "7", "7"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_links_have_the_content_that_they_link_to(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"content")
    os.link(folder / "a.png", folder / "b.png")
    (folder / "0.cls").write_bytes(b"7")
    os.link(folder / "0.cls", folder / "sub" / "x.cls")
    for name, target in (
        ("sub/x.png", "../a.png"),
        ("c.png", "sub/x.png"),
        ("d.png", "gone.png"),
        ("e.png", "/etc/passwd"),
        ("f.png", "f.png"),
        ("h.png", "g.png"),
    ):
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "g.png")
    names = "a.png b.png 0.cls sub/x.cls sub/x.png c.png d.png e.png f.png g.png h.png".split()
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", folder, *names], check=True)
    (tmp_path / "a.tar").write_bytes(compress((tmp_path / "a.tar").read_bytes()))
    records = read(tmp_path / "a.tar", labels="cls")
    assert images(records) == [
        ("a.png", b"content"),
        ("b.png", b"content"),
        ("0", FaultKind.MISSING),
        ("sub/x.png", b"content"),
        ("c.png", b"content"),
        *((f"{name}.png", FaultKind.UNREADABLE) for name in "defgh"),
    ]
    assert [each.label for each in records] == [None, None, "7", "7", *[None] * 6]
    assert isinstance(records[5].image, Fault)
    assert (
        "it is a link to gone.png, which is not among the files before" in records[5].image.reason
    )


def test_a_link_too_far_back_is_a_row_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoring.inputs.tar_archive._MOST_REMEMBERED", 2000)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("a.png", "b.png", "c.png"):
            member = tarfile.TarInfo(name)
            member.size = 900
            tar.addfile(member, io.BytesIO(bytes(900)))
        for name in ("a", "c"):
            member = tarfile.TarInfo(f"link-{name}.png")
            member.type, member.linkname = tarfile.LNKTYPE, f"{name}.png"
            tar.addfile(member)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(file.getvalue()))
    *_, far, near = images(read(tmp_path / "a.tar.gz"))
    assert far == ("link-a.png", FaultKind.UNREADABLE)
    assert near == ("link-c.png", bytes(900))


def test_what_macos_adds_is_no_image(tar: Callable[..., Path]) -> None:
    attributes = b"\0\5\x16\7\0\2\0\0Mac OS X"
    path = tar(("._a.png", attributes), ("a.png", b"a"), ("__MACOSX/._a.png", attributes))
    assert images(read(path)) == [("a.png", b"a")]
    assert images(read(tar(("._a.png", b"an image")))) == [("._a.png", b"an image")]


def test_ids_are_unique_whatever_members_are_called(tar: Callable[..., Path]) -> None:
    names = ["a.png", "a.png#2.png", "a.png", "a.png", "a.png#3.png", "", "x"]
    assert len(read(tar(*((name, b"") for name in names)))) == len(names)
    unique = UniqueNames()
    found = [unique.unique(name, row) for row, name in enumerate(["a", "a#2", "a", "a", "a#3#2"])]
    assert found == ["a", "a#2", "a#2#2", "a#3", "a#3#2"]


def test_names_that_look_like_others_only_get_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique_names, "_BITS", 1024)
    unique = UniqueNames()
    found = [unique.unique(f"{i}", i) for i in range(100)]
    assert len(set(found)) == 100
    assert all(name.split("#")[0] == str(i) for i, name in enumerate(found))


def test_archives_behind_each_other_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive(*TEN[:4]) + archive(*TEN[4:]))
    assert images(read(tmp_path / "a.tar")) == TEN


@pytest.mark.parametrize("junk", [b"no header", b"x" * BLOCK, os.urandom(5 * BLOCK + 7)])
def test_what_is_behind_the_end_is_a_row_with_an_error(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(archive(*TEN) + junk)
    *rows, last = read(tmp_path / "a.tar")
    assert images(rows) == TEN
    assert isinstance(last.image, Fault)


def test_a_page_of_zeros_in_the_middle_is_no_end(tmp_path: Path) -> None:
    content = bytearray(archive(*TEN))
    with tarfile.open(fileobj=io.BytesIO(content)) as whole:
        page = whole.getmembers()[2].offset
    content[page : page + 8 * BLOCK] = bytes(8 * BLOCK)
    content[page + 8 * BLOCK : page + 9 * BLOCK] = b"x" * BLOCK  # of an image without its header
    (tmp_path / "a.tar").write_bytes(content)
    *rows, last = read(tmp_path / "a.tar")
    assert images(rows) == TEN[:2]
    assert isinstance(last.image, Fault)


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed_archives(tmp_path: Path, ending: str) -> None:
    compress = COMPRESSIONS[ending]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(compress(WHOLE))
    assert images(read(tmp_path)) == TEN
    half = len(WHOLE) // 2
    path.write_bytes(compress(WHOLE[:half]) + compress(WHOLE[half:]))  # as parallel tools do
    assert images(read(path)) == TEN


def test_gnu_tar_agrees(tmp_path: Path) -> None:
    """Long names, sparse files and every format that it writes."""
    folder = tmp_path / "data"
    folder.mkdir()
    names = [f"{'x' * 120}{i}.png" for i in range(3)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    with (folder / "sparse.png").open("wb") as file:
        file.seek(100_000)
        file.write(b"end")
    for kind in ("gnu", "posix", "oldgnu"):
        what = [f"--format={kind}", "-C", str(folder), *names, "sparse.png"]
        subprocess.run(["tar", "-cSf", tmp_path / f"{kind}.tar", *what], check=True)
        records = images(read(tmp_path / f"{kind}.tar"))
        assert records[:3] == [(name, name.encode()) for name in names]
        assert records[3] == ("sparse.png", bytes(100_000) + b"end")
