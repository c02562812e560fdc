"""Images that are refused, each with a clear sentence, and whatever else the bytes may be."""

from __future__ import annotations

import struct
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage, RideError, SettingsError
from serving.images.containers.jpeg import MAX_SCANS
from serving.images.decode import ImageLimits
from serving.images.formats import ALL
from serving.model.manifest import ImageSpec
from tests.serving.images.pictures import (
    ALL_FORMATS,
    SPECS,
    array,
    assert_clear,
    chunk,
    decode,
    encode,
    exif_block,
    picture,
    png_chunks,
    png_with_size,
    refusal,
    with_chunks,
)


def test_an_empty_body_is_refused() -> None:
    kind, message = refusal(b"")
    assert kind is InvalidImage
    assert message.startswith("the image is empty")


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\0",
        b"\xff\xd8",
        b"%PDF-1.7",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"RIFF\0\0\0\0WAVEfmt ",
        *(encode(picture(mode="P"), name) for name in ("GIF", "BMP", "TIFF", "ICO")),
        encode(picture(mode="P"), "GIF", save_all=True, append_images=[picture(mode="L")]),
    ],
)
def test_what_is_not_accepted_is_refused_with_what_is(data: bytes) -> None:
    kind, message = refusal(data)
    assert kind is InvalidImage
    assert "send a JPEG, PNG, WebP or AVIF file" in message


@cache
def seeds() -> list[bytes]:
    """Small files of every kind that is accepted."""
    exif, turned = exif_block(6), Image.Exif()
    turned[0x112] = 6
    grey16 = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257)
    return [
        encode(picture(16, 16), "JPEG", exif=exif),
        encode(picture(16, 16), "JPEG", progressive=True),
        encode(picture(16, 16, "CMYK"), "JPEG"),
        encode(picture(16, 16, "L"), "JPEG", restart_marker_blocks=1),
        encode(picture(16, 16), "PNG", exif=exif, icc_profile=b"profile"),
        encode(picture(16, 16, "P"), "PNG", transparency=bytes(range(256))),
        encode(picture(16, 16, "LA"), "PNG"),
        encode(picture(16, 16, "1"), "PNG", transparency=0),
        encode(grey16, "PNG"),
        encode(picture(16, 16), "WEBP"),
        encode(picture(16, 16), "WEBP", lossless=True),
        encode(picture(16, 16, "RGBA"), "WEBP", exif=exif),
        encode(picture(16, 16), "AVIF", exif=turned),
        encode(picture(16, 16, "RGBA"), "AVIF"),
        encode(picture(16, 16), "BMP"),
        encode(picture(16, 16, "P"), "BMP"),
        encode(picture(16, 16, "P"), "GIF", save_all=True, append_images=[picture(16, 16, "P")]),
        encode(picture(16, 16), "TIFF"),
        encode(grey16, "TIFF", compression="tiff_lzw"),
        encode(picture(16, 16), "TIFF", compression="jpeg"),
        encode(picture(16, 16, "1"), "TIFF", compression="group4"),
    ]


@pytest.mark.parametrize("data", seeds(), ids=range(len(seeds())))
def test_a_truncated_image_is_refused_unless_all_its_pixels_are_there(data: bytes) -> None:
    expected, lost = decode(data, limits=ALL_FORMATS), 0
    assert expected.shape == (32, 32, 3)
    for length in range(1, len(data)):
        try:
            result = decode(data[:length], limits=ALL_FORMATS)
        except InvalidImage:
            lost += 1
        else:
            np.testing.assert_array_equal(result, expected)
    assert lost > 80


@pytest.mark.parametrize("position", [8, 11, 16, 23, 24, 25, 26, 27, 28, 29, 32])
def test_a_damaged_header_is_refused(position: int) -> None:
    data = bytearray(encode(picture(), "PNG"))
    data[position] ^= 1
    assert refusal(bytes(data), limits=ImageLimits(max_pixels=50_000_000))[0] in {
        InvalidImage,
        ImageTooLarge,
    }


def test_a_damaged_checksum_of_the_pixels_is_refused() -> None:
    data = encode(picture(), "PNG")
    stream = bytearray(b"".join(body for kind, body in png_chunks(data) if kind == b"IDAT"))
    stream[-1] ^= 1
    damaged = data[:33] + chunk(b"IDAT", bytes(stream)) + chunk(b"IEND", b"")
    assert refusal(damaged)[0] is InvalidImage


def test_what_follows_the_image_does_not_matter() -> None:
    for data in seeds():
        longer = decode(data + b"trailing bytes", limits=ALL_FORMATS)
        np.testing.assert_array_equal(longer, decode(data, limits=ALL_FORMATS))


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "AVIF"])
def test_an_animated_image_is_refused(format_name: str) -> None:
    frames = [picture(), picture().rotate(90)]
    kind, message = refusal(
        encode(frames[0], format_name, save_all=True, append_images=frames[1:], duration=50)
    )
    assert kind is InvalidImage
    assert "animated" in message


def test_an_animation_of_one_frame_is_a_picture() -> None:
    data = with_chunks(encode(picture(), "PNG"), chunk(b"acTL", struct.pack(">LL", 1, 0)))
    np.testing.assert_array_equal(decode(data), array(picture()))


def test_of_a_file_with_several_jpegs_the_first_counts() -> None:
    data = encode(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert decode(data).shape == (32, 32, 3)


def test_the_limit_of_bytes_is_inclusive() -> None:
    data = encode(picture(), "PNG")
    assert decode(data, limits=ImageLimits(max_bytes=len(data))).shape == (32, 32, 3)
    kind, message = refusal(data, limits=ImageLimits(max_bytes=len(data) - 1))
    assert kind is ImageTooLarge
    assert f"{len(data)} bytes" in message


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_the_limit_of_pixels_is_inclusive(format_name: str) -> None:
    data = encode(picture(50, 40), format_name)
    assert decode(data, limits=ImageLimits(max_pixels=2_000)).shape == (32, 32, 3)
    kind, message = refusal(data, limits=ImageLimits(max_pixels=1_999))
    assert kind is ImageTooLarge
    assert "50 x 40 pixels" in message


@pytest.mark.parametrize("size", [(1, 51), (51, 1), (2, 101), (1, 10_000_000)])
def test_an_absurd_aspect_is_refused(size: tuple[int, int]) -> None:
    kind, message = refusal(png_with_size(*size))
    assert kind is InvalidImage
    assert f"{size[0]} x {size[1]} pixels" in message


def test_what_lies_between_resize_and_crop_is_bounded_too() -> None:
    spec = ImageSpec(height=100, width=100, resize_shorter_side=100, interpolation="bilinear")
    limits = ImageLimits(max_pixels=60_000)
    assert decode(encode(picture(60, 10), "PNG"), spec, limits).shape == (100, 100, 3)
    kind, message = refusal(encode(picture(61, 10), "PNG"), spec, limits)
    assert kind is InvalidImage
    assert "at most 6 times" in message


def test_a_small_limit_leaves_usual_aspects_alone() -> None:
    limits = ImageLimits(max_pixels=1_000)
    assert decode(encode(picture(60, 15), "PNG"), SPECS[3], limits).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "limits",
    [{"max_bytes": 0}, {"max_pixels": 0}, {"max_pixels": -1}, {"max_pixels": 100_000_000}],
)
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ImageLimits(**limits)


def test_pillows_own_limit_lies_above_ours() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    ImageLimits(max_pixels=Image.MAX_IMAGE_PIXELS)


def test_a_jpeg_with_too_many_scans_is_refused() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = data.count(b"\xff\xda")
    full = data[:-2] + data[last:-2] * (MAX_SCANS - scans)
    assert decode(full + b"\xff\xd9").shape == (32, 32, 3)
    kind, message = refusal(full + data[last:])
    assert kind is InvalidImage
    assert "scans" in message


def test_a_jpeg_with_two_headers_is_refused() -> None:
    data = encode(picture(), "JPEG")
    header = data.index(b"\xff\xc0")
    twice = data[:header] + data[header : header + 19] + data[header:]
    assert refusal(twice)[0] is InvalidImage


# Whatever the bytes are

EDITS = st.lists(
    st.tuples(
        st.integers(0, 2_000), st.sampled_from([0, 1, 2, 4, 16, 10_000]), st.binary(max_size=8)
    ),
    max_size=5,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Each edit replaces some bytes at a position by others, fewer or more."""
    for position, removed, inserted in edits:
        start = position % (len(data) + 1)
        data = data[:start] + inserted + data[start + removed :]
    return data


def with_right_checksums(data: bytes) -> bytes:
    """So that a damaged PNG gets past the first check that it fails."""
    return data[:8] + b"".join(chunk(kind, payload) for kind, payload in png_chunks(data))


def assert_decodes_or_is_refused(data: bytes, limits: ImageLimits) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = decode(data, limits=limits)
        except RideError as error:
            assert_clear(str(error))
        else:
            assert result.shape == (32, 32, 3)
    assert not caught


@settings(max_examples=600)
@given(st.sampled_from(seeds()), EDITS, st.booleans())
def test_damaged_files_decode_or_are_refused(
    data: bytes, edits: list[tuple[int, int, bytes]], repair: bool
) -> None:
    damaged = edited(data, edits)
    if repair and damaged.startswith(b"\x89PNG"):
        damaged = with_right_checksums(damaged)
    assert_decodes_or_is_refused(damaged, ImageLimits(max_pixels=250_000, formats=ALL))


STARTS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\1\0\0WEBPVP8X",
    b"\0\0\0\x0cftypavif\0\0\0\x40meta\0\0\0\0",
    b"BM\0\1\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    b"GIF89a\x20\0\x20\0\0\0\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
]


@settings(max_examples=300)
@given(
    st.sampled_from(STARTS),
    st.binary(max_size=200),
)
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    assert_decodes_or_is_refused(start + rest, ALL_FORMATS)
