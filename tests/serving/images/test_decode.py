"""Decoding of uploads: the evaluation transform for good images, clear refusals for bad ones."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from serving.errors import ImageTooLarge, InvalidImage, RideError, SettingsError
from serving.images.decode import ImageLimits, decode_image
from serving.images.files import MAX_SCANS
from serving.images.rgb import MAX_ASPECT_RATIO
from serving.model.manifest import ImageSpec
from tests.checkout import ROOT
from tests.serving.images.pictures import (
    UPRIGHT,
    Pixels,
    array,
    chunk,
    encode,
    evaluated,
    exif_block,
    picture,
    segment,
    with_chunks,
    with_exif,
)

SMALL = ImageSpec(height=32, width=32, resize_shorter_side=32, interpolation="bilinear")
SPECS = (
    SMALL,
    ImageSpec(height=32, width=32, resize_shorter_side=36, interpolation="bicubic"),
    ImageSpec(height=56, width=40, resize_shorter_side=64, interpolation="bicubic"),
    ImageSpec(height=224, width=224, resize_shorter_side=256, interpolation="bilinear"),
)
LIMITS = ImageLimits()


def decode(data: bytes, spec: ImageSpec = SMALL, limits: ImageLimits = LIMITS) -> Pixels:
    return decode_image(data, spec, limits)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand: `rows` without filter bytes, `extra` chunks before the pixels."""
    length = len(rows) // height
    lines = [b"\0" + rows[start : start + length] for start in range(0, len(rows), length)]
    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *extra, pixels, chunk(b"IEND", b"")]
    )


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def png_with_size(width: int, height: int) -> bytes:
    """A small PNG whose header claims another size."""
    data = encode(picture(), "PNG")
    header = struct.pack(">LL", width, height) + data[24:29]
    return data[:8] + chunk(b"IHDR", header) + data[33:]


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encode(picture(), "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def webp_with_size(width: int, height: int) -> bytes:
    """A small extended WebP whose header claims another canvas."""
    data = bytearray(encode(picture(mode="RGBA"), "WEBP", exif=b"Exif\0\0II*\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def lossless(image: Image.Image, format_name: str, **options: Any) -> bytes:
    extra = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    return encode(image, format_name, **extra, **options)


# The evaluation transform


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "size", [(32, 32), (31, 33), (500, 375), (64, 3200), (1, 1), (1, 40), (640, 256), (9, 8)]
)
def test_equals_the_evaluation_transform(spec: ImageSpec, size: tuple[int, int]) -> None:
    image = picture(*size)
    np.testing.assert_array_equal(decode(encode(image, "PNG"), spec), evaluated(image, spec))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from(SPECS[:3]))
def test_equals_the_evaluation_transform_at_any_size(w: int, h: int, spec: ImageSpec) -> None:
    image = picture(min(w, h * MAX_ASPECT_RATIO), min(h, w * MAX_ASPECT_RATIO))
    np.testing.assert_array_equal(decode(encode(image, "PNG"), spec), evaluated(image, spec))


def test_a_jpeg_goes_through_the_same_transform() -> None:
    data = encode(picture(300, 200), "JPEG", quality=80)
    expected = evaluated(Image.open(io.BytesIO(data)), SPECS[2])
    np.testing.assert_array_equal(decode(data, SPECS[2]), expected)


@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_an_image_of_the_right_size_passes_bit_for_bit(format_name: str) -> None:
    image = picture()
    np.testing.assert_array_equal(decode(lossless(image, format_name)), array(image))


def test_the_result_is_a_tensor_of_its_own() -> None:
    result = decode(encode(picture(50, 40), "PNG"), SPECS[2])
    assert result.shape == (56, 40, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert result.flags.owndata


@pytest.mark.parametrize("length", [1, 50, 10_000])
def test_the_pixels_of_a_png_may_lie_in_many_chunks(length: int) -> None:
    data = encode(picture(), "PNG")
    stream = b"".join(payload for kind, payload in png_chunks(data) if kind == b"IDAT")
    parts = [stream[start : start + length] for start in range(0, len(stream), length)]
    chunks = [chunk(b"IDAT", part) for part in parts]
    chunks.insert(1, chunk(b"tEXt", b"Comment\0in between"))
    split = data[:33] + b"".join(chunks) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(split), array(picture()))


def test_a_suggested_palette_changes_nothing() -> None:
    data = with_chunks(encode(picture(), "PNG"), chunk(b"PLTE", bytes(range(30))))
    np.testing.assert_array_equal(decode(data), array(picture()))


# Colours


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_other_modes_become_rgb(mode: str, format_name: str) -> None:
    image = picture(mode=mode)
    np.testing.assert_array_equal(decode(lossless(image, format_name)), array(image))


@pytest.mark.parametrize(("depth", "scale"), [(2, 85), (4, 17)])
def test_grey_of_few_bits_is_scaled_up(depth: int, scale: int) -> None:
    packed = np.random.default_rng(0).integers(0, 256, (32, 32 * depth // 8), dtype=np.uint8)
    samples = np.stack([packed >> shift for shift in range(8 - depth, -1, -depth)], axis=-1)
    grey = (samples.reshape(32, 32) & (2**depth - 1)) * scale
    # A transparent colour, which would match nothing but wrongly.
    transparent = chunk(b"tRNS", struct.pack(">H", 1))
    result = decode(png(32, 32, depth, 0, packed.tobytes(), transparent))
    np.testing.assert_array_equal(result, np.repeat(grey[..., None], 3, axis=2))


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)
    result = decode(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(result, np.repeat((grey // 256)[..., None], 3, axis=2))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_samples_keep_their_high_byte(colour: int, channels: int) -> None:
    expected = array(picture(mode="L" if channels < 3 else "RGB"))
    high = np.full((32, 32, channels), 255, np.uint8)
    high[..., : 3 if channels > 2 else 1] = expected[..., : 3 if channels > 2 else 1]
    transparent = chunk(b"tRNS", bytes(2 * channels)) if channels % 2 else b""
    result = decode(png(32, 32, 16, colour, (high.astype(">u2") * 257).tobytes(), transparent))
    np.testing.assert_array_equal(result, expected)


def over_white(pixels: Pixels, alpha: Pixels) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    return pixels * share + 255 * (1 - share)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_alpha_is_composited_over_white(mode: str, format_name: str) -> None:
    alpha = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32).astype(np.uint8)
    image = picture(mode=mode)
    image.putalpha(Image.fromarray(alpha))
    expected = over_white(array(image), alpha)
    np.testing.assert_allclose(decode(lossless(image, format_name)), expected, atol=1)


def test_fully_transparent_pixels_are_white_whatever_lies_below() -> None:
    image = Image.new("RGBA", (32, 32), (9, 80, 200, 0))
    assert (decode(lossless(image, "PNG")) == 255).all()


@pytest.mark.parametrize("transparency", [5, bytes(range(256))])
def test_a_palette_with_transparency_is_composited_over_white(transparency: int | bytes) -> None:
    image = picture(mode="P")
    index = np.asarray(image)
    alpha = np.where(index == 5, 0, 255) if isinstance(transparency, int) else index
    expected = over_white(array(image), alpha.astype(np.uint8))
    result = decode(encode(image, "PNG", transparency=transparency))
    np.testing.assert_allclose(result, expected, atol=1)


@pytest.mark.parametrize(("mode", "key"), [("1", 0), ("L", 10), ("RGB", (10, 20, 30))])
def test_a_transparent_colour_is_composited_over_white(mode: str, key: Any) -> None:
    image = Image.new(mode, (32, 32), key)
    assert (decode(encode(image, "PNG", transparency=key)) == 255).all()


def test_cmyk_jpeg_has_the_right_colours() -> None:
    colour = (200, 40, 90)
    data = encode(Image.new("RGB", (32, 32), colour).convert("CMYK"), "JPEG", quality=95)
    np.testing.assert_allclose(decode(data), np.broadcast_to(colour, (32, 32, 3)), atol=3)


def test_ycck_jpeg_has_the_right_colours() -> None:
    colour = (200, 40, 90)
    inks = Image.new("RGB", (32, 32), (255 - 200, 255 - 40, 255 - 90)).convert("YCbCr")
    # Pillow writes inverted inks: what it is given is inverted first, to store YCC and K as is.
    stored = [Image.eval(band, lambda value: 255 - value) for band in inks.split()]
    image = Image.merge("CMYK", [*stored, Image.new("L", (32, 32), 0)])
    data = bytearray(encode(image, "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2  # the transform: YCCK
    np.testing.assert_allclose(decode(bytes(data)), np.broadcast_to(colour, (32, 32, 3)), atol=3)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_colour_profiles_are_ignored(format_name: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with_profile = encode(picture(), format_name, icc_profile=profile)
    np.testing.assert_array_equal(decode(with_profile), decode(encode(picture(), format_name)))


# Orientation


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, format_name: str) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = decode(lossless(picture(), format_name))
    result = decode(lossless(picture(), format_name, exif=exif))
    np.testing.assert_array_equal(result, UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_comes_before_the_transform(orientation: int) -> None:
    stored = picture(90, 40)
    upright = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](array(stored))))
    result = decode(with_exif(encode(stored, "PNG"), exif_block(orientation)), SPECS[2])
    np.testing.assert_array_equal(result, evaluated(upright, SPECS[2]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_found_in_both_byte_orders_and_behind_other_entries(order: str) -> None:
    entries = struct.pack(order + "HHLL", 0x10F, 4, 1, 7) * 3
    data = encode(picture(), "JPEG")
    turned = with_exif(data, exif_block(6, order, entries, 3))
    np.testing.assert_array_equal(decode(turned), UPRIGHT[6](decode(data)))


@pytest.mark.parametrize(
    "block",
    [
        exif_block(0),
        exif_block(9),
        exif_block(6)[:-6],
        exif_block(6)[:9],
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0",
        b"Exif\0\0nonsense",
    ],
)
@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_senseless_exif_is_ignored(block: bytes, format_name: str) -> None:
    data = encode(picture(), format_name)
    np.testing.assert_array_equal(decode(with_exif(data, block)), decode(data))


# Refusals


def assert_clear(message: str) -> None:
    """One sentence for a client: no reprs, paths or names of ours."""
    for internal in ("\n", ". ", "Error", "PIL", "0x", "<", "/", "object", "b'"):
        assert internal not in message


def refusal(
    data: bytes, spec: ImageSpec = SMALL, limits: ImageLimits = LIMITS
) -> tuple[type[RideError], str]:
    with pytest.raises(RideError) as caught:
        decode(data, spec, limits)
    assert_clear(str(caught.value))
    return type(caught.value), str(caught.value)


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
    assert "send a JPEG, PNG or WebP file" in message


@cache
def seeds() -> list[bytes]:
    """Small files of every kind that is accepted."""
    exif = exif_block(6)
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
    ]


@pytest.mark.parametrize("data", seeds(), ids=range(len(seeds())))
def test_a_truncated_image_is_refused_wherever_it_ends(data: bytes) -> None:
    assert decode(data).shape == (32, 32, 3)
    for length in range(1, len(data)):
        with pytest.raises(InvalidImage):
            decode(data[:length])


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
        np.testing.assert_array_equal(decode(data + b"trailing bytes"), decode(data))


@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
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
def test_senseless_limits_are_refused(limits: dict[str, int]) -> None:
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


# Bombs


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
            assert float(seconds) < 1, name


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


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(seeds()), EDITS, st.booleans())
def test_damaged_files_decode_or_are_refused(
    data: bytes, edits: list[tuple[int, int, bytes]], repair: bool
) -> None:
    damaged = edited(data, edits)
    if repair and damaged.startswith(b"\x89PNG"):
        damaged = with_right_checksums(damaged)
    assert_decodes_or_is_refused(damaged, ImageLimits(max_pixels=250_000))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\1\0\0WEBPVP8X"]),
    st.binary(max_size=200),
)
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    assert_decodes_or_is_refused(start + rest, LIMITS)
