"""Image files of all kinds become upright RGB; what is damaged or too large is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.errors import RideError
from serving.images.decode import ImageLimits
from serving.images.decode import decode_image as decode_as_the_server
from serving.images.rgb import MAX_ASPECT_RATIO, MOST_PIXELS
from serving.model.manifest import ImageSpec
from training.data.decoding import decode_image
from training.errors import DataError

SPEC = ImageSpec(9, 9, 9, "bilinear")


def picture(mode: str, size: tuple[int, int] = (9, 9)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA")
    if mode == "I;16":
        return Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 800)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"),
        ("RGB", "JPEG"),
        ("RGB", "WEBP"),
        ("RGB", "AVIF"),
        ("L", "PNG"),
        ("L", "JPEG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("CMYK", "JPEG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("I;16", "PNG"),
    ],
)
def test_an_image_comes_out_as_the_server_decodes_it(mode: str, kind: str) -> None:
    data = saved(picture(mode), kind)
    image = decode_image(data, "here")
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), decode_as_the_server(data, SPEC, ImageLimits()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_the_server_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = saved(picture("RGB"), kind, exif=exif)
    image = np.asarray(decode_image(data, "here"))
    assert np.array_equal(image, decode_as_the_server(data, SPEC, ImageLimits()))
    assert np.array_equal(image, np.asarray(decode_image(saved(picture("RGB"), kind), ""))) == (
        orientation == 1
    )


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0", b"Exif\0\0MM\0*\0\0", b"junk"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_senseless_exif_data_does_not_cost_the_image(kind: str, exif: bytes) -> None:
    assert decode_image(saved(picture("RGB"), kind, exif=exif), "here").size == (9, 9)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", saved(picture("RGB"), "GIF")])
def test_what_is_no_image_is_refused_by_name_as_the_server_does(data: bytes) -> None:
    with pytest.raises(RideError) as by_the_server:
        decode_as_the_server(data, SPEC, ImageLimits())
    with pytest.raises(DataError) as caught:
        decode_image(data, "a/b.png")
    assert str(caught.value) == f"a/b.png: {by_the_server.value}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_image_that_is_cut_short_is_refused(kind: str) -> None:
    data = saved(picture("RGB", (64, 64)), kind)
    with pytest.raises(DataError, match="here: the .* image is damaged or cut short"):
        decode_image(data[: len(data) // 2], "here")


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes that claim to be that large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("size", [(10_000, 9_000), (13_000, 13_000), (65_000, 65_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MOST_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DataError, match="here: "):
            decode_image(png_claiming(*size), "here")


def test_an_image_that_is_far_too_long_is_refused() -> None:
    assert decode_image(saved(Image.new("L", (MAX_ASPECT_RATIO, 1)), "PNG"), "here")
    with pytest.raises(DataError, match="here: the image has 51 x 1 pixels"):
        decode_image(saved(Image.new("L", (MAX_ASPECT_RATIO + 1, 1)), "PNG"), "here")


@given(st.data(), st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF"]))
@settings(max_examples=100)
def test_a_damaged_image_is_read_or_refused_but_nothing_else(
    data: st.DataObject, kind: str
) -> None:
    damaged = bytearray(saved(picture("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings(), suppress(DataError):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert decode_image(bytes(damaged), "here").mode == "RGB"
