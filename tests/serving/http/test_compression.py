"""Compressed bodies: what was packed is unpacked, in bounded memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding
from serving.http.compression import accepted_coding, compress, decompress

CODINGS = st.sampled_from(["gzip", "deflate"])


@given(st.binary(max_size=2000), CODINGS)
def test_what_was_packed_is_unpacked(body: bytes, coding: str) -> None:
    assert decompress(compress(body, coding), coding, 2000) == body


def test_other_programs_understand_both_codings() -> None:
    assert gzip.decompress(compress(b"answer", "gzip")) == b"answer"
    assert zlib.decompress(compress(b"answer", "deflate")) == b"answer"
    assert decompress(gzip.compress(b"request"), " GZip ", 100) == b"request"
    assert decompress(zlib.compress(b"request"), "deflate", 100) == b"request"


@pytest.mark.parametrize("coding", [None, "", "identity"])
def test_a_plain_body_stays_as_it_is(coding: str | None) -> None:
    assert decompress(b"plain", coding, 1) == b"plain"


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


def test_an_unknown_coding_is_named() -> None:
    with pytest.raises(UnsupportedEncoding, match="'br' is not one of gzip, deflate"):
        decompress(b"", "br", 1000)


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
