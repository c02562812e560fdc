"""Damaged tar shards: rows for what can be read, and one that says so; never silence."""

from __future__ import annotations

import functools
import io
import os
import tarfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring.errors import InputError
from scoring.inputs.webdataset import tar_shards
from scoring.records import Fault, FaultKind, Record
from tests.scoring.tar_files import BLOCK, COMPRESSIONS, TEN, WHOLE, archive, images

HEADERS = tuple(
    member.offset
    for member in tarfile.open(fileobj=io.BytesIO(WHOLE))  # noqa: SIM115 of the test alone
)
END = HEADERS[-1] + BLOCK + 3072


def records_of(content: bytes) -> list[Record]:
    """Of a shard that was checked while it was whole."""
    system = fsspec.filesystem("memory")
    system.pipe("/tar/a.tar", WHOLE)
    (shard,) = tar_shards("memory://tar/a.tar", None, None, 1000)
    system.pipe("/tar/a.tar", content)
    return list(shard.read())


def assert_rows_or_an_error(content: bytes) -> None:
    """All ten images, or those before the damage and a row that says so; never a wrong name."""
    records = records_of(content)
    names = [record.path for record in records]
    last = records[-1].image if records else None
    if isinstance(last, Fault):
        assert last.kind == FaultKind.UNREADABLE
        assert f"the tar file is damaged after {len(names) - 1} images: " in last.reason
        assert names.pop() is None
    else:
        assert len(names) == 10
    assert names == [name for name, _ in TEN[: len(names)]]


@pytest.mark.parametrize("damage", ["blank", "size", "checksum", "name"])
@pytest.mark.parametrize("member", [1, 5, 9])
def test_a_damaged_header_is_a_row(member: int, damage: str) -> None:
    at, content = HEADERS[member], bytearray(WHOLE)
    if damage == "blank":
        content[at : at + BLOCK] = bytes(BLOCK)
    else:
        content[at + {"size": 130, "checksum": 150, "name": 1}[damage]] ^= 1
    *rows, last = records_of(bytes(content))
    assert images(rows) == TEN[:member]
    assert isinstance(last.image, Fault)
    assert f"the tar file is damaged after {member} images: " in last.image.reason


def test_a_sample_without_an_image_has_its_row_before_the_damage() -> None:
    content = bytearray(archive(("a.png", b"1"), ("b.cls", b"7"), ("c.png", b"3"), ("d.cls", b"8")))
    content[3 * 2 * BLOCK] ^= 1
    content = content[: 4 * 2 * BLOCK]
    assert images(records_of(bytes(content))) == [
        ("a.png", b"1"),
        ("b", FaultKind.MISSING),
        ("c.png", b"3"),
        (None, FaultKind.UNREADABLE),
    ]
    content[2 * 2 * BLOCK] ^= 1
    *rows, damage = images(records_of(bytes(content)))
    assert rows == [("a.png", b"1"), ("b", FaultKind.MISSING)]
    assert damage == (None, FaultKind.UNREADABLE)


def test_no_truncation_is_silent() -> None:
    """But those of the padding at the end, of which one block says that the archive is whole."""
    for length in sorted({*range(0, END + 1, 300), *HEADERS, END, END + 1, END + BLOCK - 1}):
        *rows, last = records_of(WHOLE[:length])
        whole = sum(
            at + BLOCK + len(each[1]) <= length for at, each in zip(HEADERS, TEN, strict=True)
        )
        assert images(rows) == TEN[:whole], length
        assert isinstance(last.image, Fault), length
    for length in (END + BLOCK, END + 2 * BLOCK, len(WHOLE)):
        assert images(records_of(WHOLE[:length])) == TEN


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(WHOLE)))
def test_any_truncation(length: int) -> None:
    assert_rows_or_an_error(WHOLE[:length])


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.integers(0, END + 1023), st.integers(1, 255))
def test_any_flipped_byte(place: int, bits: int) -> None:
    content = bytearray(WHOLE)
    content[place] ^= bits
    assert_rows_or_an_error(bytes(content))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"7", b"V", b"D", b"M"]),
    st.binary(min_size=0, max_size=BLOCK),
    st.sampled_from([0, 1, 511, 512, 2**20 + 1, 8**11 - 1, -1, -512, -(2**40)]),
)
def test_hostile_headers(kind: bytes, content: bytes, size: int) -> None:
    """With a checksum that fits: rows or an error, in bounded memory and time."""
    member = tarfile.TarInfo("a.png")
    member.type, member.size, member.linkname = kind, size, "00.png"
    header = member.tobuf(tarfile.GNU_FORMAT)
    records = records_of(WHOLE[: HEADERS[3]] + header + content.ljust(BLOCK, b"\0") + WHOLE)
    assert images(records)[:3] == TEN[:3]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_without_end(kind: bytes) -> None:
    member = tarfile.TarInfo("a")
    member.type = kind
    rows = records_of(WHOLE[: HEADERS[3]] + member.tobuf(tarfile.GNU_FORMAT) * 5000 + WHOLE)
    assert isinstance(rows[-1].image, Fault)
    assert len(rows) == 4


@pytest.mark.parametrize("ending", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_no_damage_of_a_compressed_archive_is_silent(tmp_path: Path, ending: str) -> None:
    noise = [(name, os.urandom(3000)) for name, _ in TEN]
    whole = COMPRESSIONS[ending](archive(*noise))
    path = tmp_path / f"a.{ending}"
    path.write_bytes(whole)
    (shard,) = tar_shards(str(path), None, None, 1000)
    for length in range(20, len(whole), 401):
        path.write_bytes(whole[:length])
        *rows, last = shard.read()
        assert isinstance(last.image, Fault), length
        assert images(rows) == noise[: len(rows)]
    for place in range(20, len(whole) - 8, 1303):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        records = list(shard.read())
        assert len(records) == 10 or isinstance(records[-1].image, Fault), place
        if ending != "tar.zst":  # Arrow writes no checksums there
            assert images(records) == noise or isinstance(records[-1].image, Fault), place


class _Failing(io.BytesIO):
    """A file whose server stops answering after so many bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 8000:
            raise ConnectionError("the connection was reset")
        return super().read(size)


def test_a_server_that_stops_answering_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command goes on; a damaged file behind a URL is a row, as here."""
    opener = functools.partial(_Failing, WHOLE)
    (shard,) = tar_shards("memory://tar/a.tar", None, None, 1000)
    monkeypatch.setattr("scoring.inputs.webdataset.open_file", lambda _: opener())
    with pytest.raises(InputError, match="a.tar can't be read any more: the connection was reset"):
        list(shard.read())
