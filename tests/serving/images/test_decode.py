"""Decoding of uploads: every good image goes through the evaluation transform."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from serving.images.rgb import MAX_ASPECT_RATIO
from serving.model.manifest import ImageSpec
from tests.serving.images.pictures import (
    SPECS,
    UPRIGHT,
    Pixels,
    array,
    chunk,
    decode,
    encode,
    evaluated,
    exif_block,
    lossless,
    picture,
    png,
    png_chunks,
    with_chunks,
    with_exif,
)

# The evaluation transform


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "size", [(32, 32), (31, 33), (500, 375), (64, 3200), (1, 1), (1, 40), (640, 256), (9, 8)]
)
def test_equals_the_evaluation_transform(spec: ImageSpec, size: tuple[int, int]) -> None:
    image = picture(*size)
    np.testing.assert_array_equal(decode(encode(image, "PNG"), spec), evaluated(image, spec))


@settings(max_examples=60)
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
