"""Samples of 16 bits -> 8 bits, also where only some of the 16 mean something.

Cameras of microscopes and detectors in radiology deliver 10, 12 or 14 bits, and many programs put
them into files of 16 without scaling them up. Seen as numbers of 16 bits such images are nearly
black; viewers show the range of the detector instead. So do we:

- where the file says how many bits mean something (`sBIT` of PNG) and all samples fit into them,
  these are the detector's;
- where it says nothing, the fewest of 8, 10, 12 or 14 bits that hold all samples are;
- an image that needs more, or that was scaled up to 16 bits before (each sample is a byte twice, or
  has zeros in the place of what was missing), is one of 16 bits.

Of the bits that mean something the highest 8 are kept. So an image's brightness depends on nothing
but the image, and two of one detector differ by a power of 2 at most.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.images.containers.image_file import PngRows

Samples = NDArray[np.uint8]

DEPTHS = (8, 10, 12, 14)
"""Bits that detectors deliver and that are looked for."""


def to_eight_bits(high: Samples, low: Callable[[], Samples], significant: int = 0) -> Samples:
    """Keep 8 of 16 bits.

    Args:
        high: the samples' high bytes, [H, W, C]; with 2 or 4 channels the last is opacity, which
            goes with the colours where it fits into as many bits.
        low: makes the low bytes, [H, W, C]; not called for an image that needs all bits.
        significant: how many bits the file says to mean something; 0 if it says nothing.
    """
    colours = high[..., :-1] if high.shape[-1] in {2, 4} else high
    largest = int(colours.max(initial=0))
    depth = next((each for each in _depths(significant) if largest < 1 << each - 8), 16)
    if depth == 16:
        return high
    low_bytes = low()
    if _was_scaled_up(colours, low_bytes[..., : colours.shape[-1]], depth):
        return high
    narrow: Samples = high << np.uint8(16 - depth) | low_bytes >> np.uint8(depth - 8)
    if colours is not high and int(high[..., -1].max()) >= 1 << depth - 8:
        narrow[..., -1] = high[..., -1]
    return narrow


def _depths(significant: int) -> tuple[int, ...]:
    return (significant,) if 8 <= significant <= 16 else DEPTHS


def _was_scaled_up(high: Samples, low: Samples, depth: int) -> bool:
    zeros = not (low & (1 << 16 - depth) - 1).any()
    return zeros or np.array_equal(high, low)


def decode_rows(rows: PngRows, size: tuple[int, int], significant: int) -> Image.Image:
    """Decode the rows of a PNG of `size` (width, height) to 8 bits: L, LA, RGB or RGBA.

    Raises:
        ValueError: if they are damaged or not all there.
    """
    if rows.depth == 8:
        return _decoded("RGB", size, rows, "RGB")
    if rows.channels == 1:
        return narrowed(_decoded("I;16", size, rows, "I;16B"), significant)
    if rows.channels == 2:  # as if its 4 bytes were 4 samples
        pairs = np.asarray(_decoded("RGBA", size, rows, "RGBA"))
        return _image_of(to_eight_bits(pairs[..., ::2], lambda: pairs[..., 1::2], significant))
    mode = "RGB" if rows.channels == 3 else "RGBA"

    def low() -> Samples:  # read as if a sample's bytes were the other way round
        return np.asarray(_decoded(mode, size, rows, f"{mode};16L"))

    high = np.asarray(_decoded(mode, size, rows, f"{mode};16B"))
    return _image_of(to_eight_bits(high, low, significant))


def narrowed(grey: Image.Image, significant: int) -> Image.Image:
    """A grey image of 16 bits (mode I;16 or I;16B) in 8."""
    samples = np.asarray(grey)[..., None]
    high = (samples >> 8).astype(np.uint8)
    return _image_of(to_eight_bits(high, lambda: samples.astype(np.uint8), significant))


def _image_of(samples: Samples) -> Image.Image:
    """Samples [H, W, C] as an image of L, LA, RGB or RGBA."""
    return Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples)


def _decoded(mode: str, size: tuple[int, int], rows: PngRows, raw_mode: str) -> Image.Image:
    return Image.frombytes(mode, size, rows.data, "zip", raw_mode, int(rows.interlaced))
