"""Compressed bodies: what was packed is unpacked, in bounded memory."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding
from serving.http.compression import accepted_coding, compress, inflated, named_coding

CODINGS = st.sampled_from(["gzip", "deflate"])


def decompress(body: bytes, coding: str, max_bytes: int) -> bytes:
    return b"".join(inflated(body, coding, max_bytes))


@given(st.binary(max_size=2000), CODINGS)
def test_what_was_packed_is_unpacked(body: bytes, coding: str) -> None:
    assert decompress(compress(body, coding), coding, 2000) == body


def test_other_programs_understand_both_codings() -> None:
    assert gzip.decompress(compress(b"answer", "gzip")) == b"answer"
    assert zlib.decompress(compress(b"answer", "deflate")) == b"answer"
    assert decompress(gzip.compress(b"request"), "gzip", 100) == b"request"
    assert decompress(zlib.compress(b"request"), "deflate", 100) == b"request"


@pytest.mark.parametrize(
    ("header", "coding"),
    [("", None), ("identity", None), (" GZip ", "gzip"), ("deflate", "deflate")],
)
def test_a_coding_is_known_by_its_name(header: str, coding: str | None) -> None:
    assert named_coding(header) == coding


@given(st.binary(max_size=200), CODINGS)
def test_damaged_bodies_are_refused(body: bytes, coding: str) -> None:
    try:
        decompress(body, coding, 1000)
    except (InvalidRequest, RequestTooLarge):
        return
    assert body[:2] in (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda", b"\x78\x5e")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_is_cut_short_or_goes_on_is_refused(coding: str) -> None:
    packed = compress(b"a body of some length", coding)
    for damaged in (packed[:-1], packed + b"more", b""):
        with pytest.raises(InvalidRequest):
            decompress(damaged, coding, 1000)


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip", "gzip;q=1"])
def test_an_unknown_coding_is_named(header: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=f"'{header}' is not one of gzip, deflate"):
        named_coding(header)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_large_body_comes_in_pieces(size: int, coding: str) -> None:
    body = random.Random(size).randbytes(size)
    pieces = list(inflated(compress(body, coding), coding, size))
    assert max(map(len, pieces)) <= 2**20
    assert b"".join(pieces) == body
    with pytest.raises(RequestTooLarge):
        decompress(compress(body, coding), coding, size - 1)


def test_a_bomb_takes_no_more_memory_than_a_body_may() -> None:
    bomb = compress(bytes(200 * 2**20), "gzip")
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge, match="larger than 1048576 bytes"):
            decompress(bomb, "gzip", 2**20)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("br, gzip;q=0.5", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip; q=0, br", None),
        ("*", None),
    ],
)
def test_the_first_known_coding_is_taken(header: str | None, coding: str | None) -> None:
    assert accepted_coding(header) == coding
