"""Small files that claim or hold far too much: they cost neither memory nor time."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage
from tests.checkout import ROOT
from tests.serving.images.pictures import (
    ALL_FORMATS,
    array,
    avif_with_size,
    bmp_with_size,
    chunk,
    decode,
    encode,
    exif_block,
    gif_with_size,
    jpeg_with_size,
    picture,
    png,
    png_with_size,
    refusal,
    segment,
    tiff,
    webp_with_size,
    with_chunks,
    with_exif,
)


@cache
def refused_bombs() -> dict[str, bytes]:
    """Small files whose headers claim billions of pixels."""
    return {
        "png": png_with_size(60_000, 60_000),
        "jpeg": jpeg_with_size(60_000, 60_000),
        "webp": webp_with_size(16_000, 16_000),
        "webp_canvas": webp_with_size(1 << 24, 1 << 24),
        "avif": avif_with_size(60_000, 60_000),
        "gif": gif_with_size(60_000, 60_000),
        "gif_image": gif_of_a_wide_image(),
        "bmp": bmp_with_size(60_000, -60_000),
        "tiff": tiff(tiff_tags(60_000, 60_000), bytes(3072)),
    }


def gif_of_a_wide_image() -> bytes:
    """A GIF whose image is larger than its screen."""
    data = bytearray(encode(picture(mode="P"), "GIF"))
    struct.pack_into("<HH", data, data.index(b",\0\0\0\0") + 5, 60_000, 60_000)
    return bytes(data)


def tiff_tags(width: int = 32, height: int = 32, **other: int) -> dict[int, tuple[int, ...]]:
    """Those of an 8-bit RGB TIFF of one strip."""
    places = {"compression": 259, "rows": 278, "bits": 258}
    own = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 8, 277: 3, 278: height, 279: 3072}
    numbers = own | {places[name]: value for name, value in other.items()}
    return {tag: (value,) for tag, value in numbers.items()}


def tiled_tags(side: int) -> dict[int, tuple[int, ...]]:
    tags = tiff_tags()
    del tags[273], tags[278], tags[279]
    return tags | {322: (side,), 323: (side,), 324: (8,), 325: (3072,)}


@cache
def senseless_bombs() -> dict[str, tuple[bytes, str]]:
    """Files of a usual size in whose structure much more is claimed, and what is said of them."""
    damaged, strips = "damaged or cut short", tuple([8] * 3000)
    many = tiff_tags(rows=31) | {273: strips, 279: strips}
    values = tuple((tag, 7, 3000, 8) for tag in (347, *range(600, 900)))
    gif, small = encode(picture(mode="P"), "GIF"), encode(picture(), "BMP")
    return {
        # 40 bytes of frame that are 16 million pixels, scaled down to what the boxes say.
        "avif_frame": (avif_with_size(32, 32, Image.new("RGB", (4096, 4096))), damaged),
        "avif_nothing": (avif_with_size(0, 0), damaged),
        "tiff_tile": (tiff(tiled_tags(60_000), bytes(3072)), "tiles of more than"),
        "tiff_strips_again_and_again": (tiff(many, bytes(3072)), damaged),
        "tiff_strip_outside": (tiff(tiff_tags() | {279: (2**31,)}, bytes(3072)), damaged),
        "tiff_tags": (tiff(tiff_tags(), bytes(3072), *values * 4), "more than 1000 tags"),
        "tiff_long_tag": (tiff(tiff_tags() | {320: (0,) * 200_000}, bytes(3072)), damaged),
        "tiff_zstd": (tiff(tiff_tags(compression=50_000), bytes(3072)), "compressed in a way"),
        "tiff_colours": (tiff(tiff_tags(bits=16), bytes(6144)), "colours of more than 8 bits"),
        "tiff_floats": (tiff(tiff_tags(bits=32), bytes(3072)), "whole numbers of at most 16 bits"),
        "gif_blocks": (gif[:13] + b"!\xfe\1a\0" * 100_000 + gif[13:], damaged),
        "bmp_runs": (small[:30] + b"\1\0\0\0" + small[34:], "run lengths"),
    }


@cache
def harmless_bombs() -> dict[str, bytes]:
    """Pictures of 32 x 32 pixels with something in them that would unpack to a lot."""
    image = encode(picture(), "PNG")
    inflated = zlib.compress(bytes(2**26), 9)
    texts = [chunk(b"zTXt", b"key%d\0\0" % i + zlib.compress(bytes(2**20))) for i in range(100)]
    # Thousands of Exif entries that share one long value.
    entries = b"".join(struct.pack("<HHLL", tag, 7, 50_000, 8) for tag in range(4_000))
    end = image.rindex(b"IEND") - 4
    # Hundreds of tags of the whole file's length, and a next directory that is the first again.
    tags = [(tag, 7, 3072, 8) for tag in range(700, 1_600)]
    return {
        "avif_exif": avif_with_exif(exif_block(1, entries=entries, count=4_000) + bytes(10_000)),
        "tiff_long_tags": tiff(tiff_tags(), array(picture()).tobytes(), *tags),
        "tiff_zip": tiff(
            tiff_tags(compression=8) | {279: (len(inflated),)}, inflated + bytes(4_000)
        ),
        "gif_comments": with_comments(encode(picture(mode="P"), "GIF")),
        "text": with_chunks(image, *texts),
        "text_behind": image[:end] + b"".join(texts) + image[end:],
        "profile": with_chunks(image, chunk(b"iCCP", b"name\0\0" + inflated)),
        "pixels": png(32, 32, 8, 2, array(picture()).tobytes())[:-12]
        + chunk(b"IDAT", inflated)
        + chunk(b"IEND", b""),
        "exif": with_exif(image, exif_block(1, entries=entries, count=4_000) + bytes(10_000)),
        "jpeg_exif": with_exif(
            encode(picture(), "JPEG"), exif_block(1, entries=entries, count=4_000) + bytes(10_000)
        ),
    }


def avif_with_exif(block: bytes) -> bytes:
    """An AVIF with any Exif block, which Pillow would not write."""
    place, tiff = Image.Exif(), block.removeprefix(b"Exif\0\0")
    place[0x9286] = b"#" * len(tiff)
    data = encode(picture(), "AVIF", exif=place)
    start = data.index(b"MM\0*")
    return data[:start] + tiff + data[start + len(tiff) :]


def with_comments(gif: bytes) -> bytes:
    start = 13 + (3 << (gif[10] & 7) + 1)
    return gif[:start] + b"!\xfe" + b"\xff" + b"a" * 255 + b"\0" + gif[start:]


@pytest.mark.parametrize("name", refused_bombs())
def test_a_header_that_claims_too_much_is_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind, message = refusal(refused_bombs()[name], limits=ALL_FORMATS)
    assert kind is ImageTooLarge
    assert "scale it down" in message


@pytest.mark.parametrize("name", senseless_bombs())
def test_a_structure_that_claims_too_much_is_refused(name: str) -> None:
    data, problem = senseless_bombs()[name]
    kind, message = refusal(data, limits=ALL_FORMATS)
    assert kind is InvalidImage
    assert problem in message


@pytest.mark.parametrize("name", harmless_bombs())
def test_a_bomb_outside_the_pixels_is_not_opened(name: str) -> None:
    data = harmless_bombs()[name]
    format_name = {"jpeg_exif": "JPEG", "avif_exif": "AVIF", "gif_comments": "GIF"}.get(name, "PNG")
    image = picture(mode="P") if format_name == "GIF" else picture()
    expected = array(Image.open(io.BytesIO(encode(image, format_name))))
    expected = np.zeros_like(expected) if name == "tiff_zip" else expected
    np.testing.assert_array_equal(decode(data, limits=ALL_FORMATS), expected)


def test_many_tiny_blocks_are_refused_quickly() -> None:
    image, jpeg = encode(picture(), "PNG"), encode(picture(), "JPEG")
    start = time.process_time()
    for data, problem in (
        (with_chunks(image, chunk(b"IDAT", b"") * 1_000_000), "more than 50000 chunks"),
        (jpeg[:2] + segment(0xFE, b"") * 3_000_000 + jpeg[2:], "more than 50000 segments"),
        (b"\xff\xd8" + b"\xff" * 15_000_000, "damaged"),
    ):
        kind, message = refusal(data)
        assert kind is InvalidImage
        assert problem in message
    assert time.process_time() - start < 5


MEASURE = """
import sys, time
from pathlib import Path
from serving.errors import RideError
from serving.images.decode import ImageLimits, decode_image
from serving.images.formats import ALL
from serving.model.manifest import ImageSpec

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

for file in map(Path, sys.argv[1:]):
    data, before, start = file.read_bytes(), peak_mb(), time.process_time()
    try:
        decode_image(data, ImageSpec(32, 32, 32, "bilinear"), ImageLimits(formats=ALL))
        outcome = "decoded"
    except RideError as error:
        outcome = type(error).__name__
    print(file.name, outcome, peak_mb() - before, time.process_time() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_bombs_take_neither_memory_nor_time(tmp_path: Path) -> None:
    # Without torch and in a process of its own, where the peak is not hidden by an earlier one.
    names = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
    warm = {f"warm_{name}": encode(picture(), name) for name in names}
    senseless = {name: data for name, (data, _) in senseless_bombs().items()}
    files = warm | refused_bombs() | harmless_bombs() | senseless
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in measured.stdout.splitlines()]
    assert [line[0] for line in lines] == list(files)
    for name, outcome, peak_mb, seconds in lines:
        expected = "InvalidImage" if name in senseless else "decoded"
        assert outcome == ("ImageTooLarge" if name in refused_bombs() else expected), name
        if name not in warm:
            assert int(peak_mb) < 16, name
            assert float(seconds) < 5, name
