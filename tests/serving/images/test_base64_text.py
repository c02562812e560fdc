"""Text that holds an image file, and everything that does not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.images.base64_text import image_file

HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\x00\x00\x00WEBP")


@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_a_file_is_itself_and_its_text_is_it_too(head: bytes, rest: bytes) -> None:
    file = head + rest
    assert image_file(file) == file
    for text in (
        base64.b64encode(file),
        base64.urlsafe_b64encode(file),
        base64.encodebytes(file),
        base64.encodebytes(file).replace(b"\n", b"\r\n"),
    ):
        assert image_file(text) == file


@pytest.mark.parametrize("data", [b"<html>", b"aGVsbG8", b"a===", b"aGk=aGk=", b"\x00" * 8, b"{}"])
def test_other_text_stays_as_it_is(data: bytes) -> None:
    assert image_file(data) == data
