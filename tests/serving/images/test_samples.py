"""PNGs and TIFFs of 16 bits a sample, of which fewer mean something."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from serving.images.decode import ImageLimits
from serving.images.formats import ALL
from serving.images.rgb import MOST_PIXELS, decode_whole
from tests.serving.images.pictures import Pixels, chunk, decode, encode, picture, png

COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""The type of colour in a PNG, by its channels."""

Wide = NDArray[np.uint16]


def ramp(bits: int, channels: int = 1) -> Wide:
    """All brightness there is in so many bits, the last channel opaque where it is opacity."""
    steps = np.linspace(0, 2**bits - 1, 32 * 32 * channels).round()
    samples = steps.reshape(32, 32, channels).astype(np.uint16)
    if channels in {2, 4}:
        samples[..., -1] = 2**bits - 1
    return samples


def wide_png(samples: NDArray[Any], *extra: bytes) -> bytes:
    height, width, channels = samples.shape
    return png(width, height, 16, COLOURS[channels], samples.astype(">u2").tobytes(), *extra)


def sbit(*bits: int) -> bytes:
    return chunk(b"sBIT", bytes(bits))


def seen(samples: NDArray[Any]) -> Pixels:
    """As RGB; opacity left out."""
    colours = samples[..., :-1] if samples.shape[-1] in {2, 4} else samples
    return np.broadcast_to(colours, (*samples.shape[:2], 3)).astype(np.uint8)


@pytest.mark.parametrize("channels", COLOURS)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_highest_8_of_the_bits_in_use_are_kept(bits: int, channels: int) -> None:
    samples = ramp(bits, channels)
    expected = seen(samples >> bits - 8)
    assert expected.max() == 255
    np.testing.assert_array_equal(decode(wide_png(samples)), expected)


@pytest.mark.parametrize("channels", COLOURS)
def test_training_sees_the_same(channels: int) -> None:
    data = wide_png(ramp(12, channels))
    np.testing.assert_array_equal(np.asarray(decode_whole(data, MOST_PIXELS)), decode(data))


@pytest.mark.parametrize(("largest", "bits"), [(1000, 10), (1024, 12), (3000, 12), (5000, 14)])
def test_without_a_word_it_is_the_least_depth_that_holds_all_samples(
    largest: int, bits: int
) -> None:
    samples = np.linspace(0, largest, 1024).astype(np.uint16).reshape(32, 32, 1)
    np.testing.assert_array_equal(decode(wide_png(samples)), seen(samples >> bits - 8))


@pytest.mark.parametrize(("bits", "shift"), [(12, 4), (11, 3), (9, 1)])
def test_the_file_may_say_how_many_bits_mean_something(bits: int, shift: int) -> None:
    samples = np.linspace(0, 300, 1024).astype(np.uint16).reshape(32, 32, 1)
    np.testing.assert_array_equal(decode(wide_png(samples, sbit(bits))), seen(samples >> shift))


def test_what_a_file_says_of_its_opacity_does_not_count() -> None:
    samples = ramp(12, 4)
    samples[..., -1] = 65_535
    np.testing.assert_array_equal(
        decode(wide_png(samples, sbit(12, 12, 12, 16))), seen(samples >> 4)
    )


@pytest.mark.parametrize("said", [16, 12, 10, 0])
def test_an_image_of_all_16_bits_keeps_its_high_bytes(said: int) -> None:
    samples = ramp(16, 3)
    extra = (sbit(said, said, said),) if said else ()
    np.testing.assert_array_equal(decode(wide_png(samples, *extra)), seen(samples >> 8))


def test_a_dark_image_that_says_that_all_16_bits_mean_something_stays_dark() -> None:
    samples = ramp(12)
    np.testing.assert_array_equal(decode(wide_png(samples, sbit(16))), seen(samples >> 8))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("replicated", [False, True])
def test_a_dark_image_that_was_scaled_up_stays_dark(bits: int, replicated: bool) -> None:
    """As the PNG specification asks writers to (13.12), or by zeros."""
    few = np.linspace(0, 2**bits // 20, 1024).astype(np.uint16).reshape(32, 32, 1)
    samples = few << 16 - bits
    if replicated and bits == 8:
        samples |= few
    np.testing.assert_array_equal(decode(wide_png(samples)), seen(samples >> 8))
    assert decode(wide_png(samples)).max() < 16


def test_opacity_goes_with_the_colours_where_it_fits() -> None:
    samples = ramp(12, 4)
    samples[:16, :, -1] = 0
    result = decode(wide_png(samples))
    assert (result[:16] == 255).all()
    np.testing.assert_array_equal(result[16:], seen(samples >> 4)[16:])
    samples[16:, :, -1] = 65_535
    np.testing.assert_array_equal(decode(wide_png(samples)), result)


@pytest.mark.parametrize("largest", [0, 1, 255, 256, 65_535])
def test_images_of_one_value_are_read(largest: int) -> None:
    samples = np.full((32, 32, 1), largest, np.uint16)
    assert len(np.unique(decode(wide_png(samples)))) == 1


@given(st.integers(1, 65_535), st.integers(0, 2**32 - 1), st.sampled_from(sorted(COLOURS)))
def test_brightness_keeps_its_order_and_nothing_is_clipped(
    largest: int, seed: int, channels: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, largest + 1, (32, 32, channels))
    if channels in {2, 4}:
        samples[..., -1] = 65_535
    result = decode(wide_png(samples.astype(np.uint16))).astype(int)
    wide = seen(samples >> 8).astype(int)  # what 16 bits would give
    flat = samples[..., 0].ravel()
    order = np.argsort(flat, kind="stable")
    assert (np.diff(result[..., 0].ravel()[order]) >= 0).all()
    assert (result >= wide).all()


@pytest.mark.parametrize("channels", COLOURS)
def test_interlaced_rows_are_read_too(channels: int) -> None:
    samples = ramp(12, channels)
    np.testing.assert_array_equal(decode(interlaced(samples)), decode(wide_png(samples)))


def interlaced(samples: Wide) -> bytes:
    """A PNG of seven passes (Adam7)."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2))
    rows = [samples[y::dy, x::dx] for y, dy, x, dx in (*passes, (1, 2, 0, 1))]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for part in rows for row in part)
    header = struct.pack(">LLBBBBB", 32, 32, 16, COLOURS[samples.shape[-1]], 0, 0, 1)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("channels", COLOURS)
def test_rows_that_pillow_filters_are_read_as_pillow_reads_them(channels: int) -> None:
    image = picture(mode={1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels])
    samples = np.asarray(image).reshape(32, 32, channels).astype(np.uint16) * 257
    filtered = encode(Image.fromarray(samples[..., 0]), "PNG") if channels == 1 else None
    data = filtered or wide_png(samples)
    reference = Image.open(io.BytesIO(data)).convert("RGB") if channels > 1 else image
    np.testing.assert_array_equal(decode(data), np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_rows_that_are_not_all_there_are_refused(cut: int) -> None:
    samples = ramp(12, 3)
    short = png(32, 32, 16, 2, samples.astype(">u2").tobytes()[: -cut * 32 * 6])
    with pytest.raises(Exception, match="the PNG image is damaged or cut short"):
        decode(short)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_tiff_of_grey_is_seen_in_the_same_way(bits: int) -> None:
    samples = ramp(bits)
    data = encode(Image.fromarray(samples[..., 0]), "TIFF")
    result = decode(data, limits=ImageLimits(formats=ALL))
    np.testing.assert_array_equal(result, seen(samples >> bits - 8))
