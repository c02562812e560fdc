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
    array,
    chunk,
    decode,
    encode,
    exif_block,
    jpeg_with_size,
    picture,
    png,
    png_with_size,
    refusal,
    segment,
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
    return {
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


@pytest.mark.parametrize("name", refused_bombs())
def test_a_header_that_claims_too_much_is_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind, message = refusal(refused_bombs()[name])
    assert kind is ImageTooLarge
    assert "scale it down" in message


@pytest.mark.parametrize("name", harmless_bombs())
def test_a_bomb_outside_the_pixels_is_not_opened(name: str) -> None:
    data = harmless_bombs()[name]
    expected = array(Image.open(io.BytesIO(encode(picture(), "JPEG"))))
    expected = expected if name == "jpeg_exif" else array(picture())
    np.testing.assert_array_equal(decode(data), expected)


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
from serving.model.manifest import ImageSpec

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

for file in map(Path, sys.argv[1:]):
    data, before, start = file.read_bytes(), peak_mb(), time.process_time()
    try:
        decode_image(data, ImageSpec(32, 32, 32, "bilinear"), ImageLimits())
        outcome = "decoded"
    except RideError as error:
        outcome = type(error).__name__
    print(file.name, outcome, peak_mb() - before, time.process_time() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_bombs_take_neither_memory_nor_time(tmp_path: Path) -> None:
    # Without torch and in a process of its own, where the peak is not hidden by an earlier one.
    warm = {f"warm_{name}": encode(picture(), name) for name in ("PNG", "JPEG", "WEBP")}
    files = warm | refused_bombs() | harmless_bombs()
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
        assert outcome == ("ImageTooLarge" if name in refused_bombs() else "decoded"), name
        if name not in warm:
            assert int(peak_mb) < 16, name
            assert float(seconds) < 5, name
