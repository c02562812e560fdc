"""The study `decoding`: from the bytes of an image file to a tensor."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.flags import Seconds
from benchmarks.turns import fastest
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import ImageSpec
from training.augmentation.images import evaluation_transform
from training.config import DataConfig
from training.data.decoding import decode_image as decode_whole

SPECS = (ImageSpec(32, 32, 32, "bilinear"), ImageSpec(224, 224, 256, "bilinear"))

_FALL = 0.55
"""Each halving in size makes a structure so many times weaker."""
_NOISE = 4
"""Levels of 255, the standard deviation of a sensor's noise."""


@dataclass(frozen=True)
class Upload:
    """An encoded image and what it is called in the table."""

    name: str
    data: bytes


def decoding(seconds: Seconds = 1.0) -> Iterator[str]:
    """What does it cost to make a model's input of an uploaded image, by kind and size?

    Each image goes through `serving.images.decode.decode_image`, all the way from bytes to a
    tensor, on one thread, for a model of 32 x 32 pixels and for one of 224 x 224. Behind it, in
    brackets, is what the same costs with the whole image decoded by Pillow and torchvision's steps
    after it, as training does it. Times are in milliseconds, the least of all tries, which other
    work disturbs least. The images look as photographs do to a codec: structures of all sizes, the
    larger the stronger, and the noise of a sensor.
    """
    return decoding_table(uploads(), seconds)


def decoding_table(images: Iterable[Upload], seconds: float) -> Iterator[str]:
    """The table, line by line; each figure is measured for about `seconds`."""
    models = "".join(f"{spec.width} x {spec.height}".rjust(20) for spec in SPECS)
    yield f"{'image':<36}{'KiB':>7}{models}"
    for upload in images:
        times = ""
        for spec in SPECS:
            ours, whole = fastest([served(upload, spec), trained(upload, spec)], 2 * seconds)
            times += f"{1e3 * ours:.3f}".rjust(9) + f" ({1e3 * whole:.3f})".rjust(11)
        yield f"{upload.name:<36}{len(upload.data) / 1024:>7.1f}{times}"


def uploads() -> Iterator[Upload]:
    """What people send: small images of a data set, pictures of the web, those of a camera."""
    small, medium, large = photograph(32, 32), photograph(500, 375), photograph(4000, 3000)
    yield Upload("PNG, 32 x 32", encoded(small, "PNG"))
    yield Upload("JPEG, 32 x 32", encoded(small, "JPEG", quality=90))
    yield Upload("PNG, 500 x 375", encoded(medium, "PNG"))
    yield Upload("WebP, 500 x 375", encoded(medium, "WEBP", quality=90))
    yield Upload("JPEG, 500 x 375", encoded(medium, "JPEG", quality=90))
    yield Upload("JPEG, 4000 x 3000", encoded(large, "JPEG", quality=90))
    yield Upload(
        "JPEG, 4000 x 3000, progressive", encoded(large, "JPEG", quality=90, progressive=True)
    )
    sideways = Image.Exif()
    sideways[0x112] = 6
    yield Upload(
        "JPEG, 4000 x 3000, on its side", encoded(large, "JPEG", quality=90, exif=sideways)
    )


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGB noise with the spectrum of a photograph, always the same for the same arguments."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    cells, strength = 2, 1.0
    while cells < max(width, height):
        shape = (2 + cells * height // max(width, height), 2 + cells * width // max(width, height))
        for channel in range(3):
            plane = Image.fromarray(generator.standard_normal(shape, np.float32))
            resized = plane.resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += strength * np.asarray(resized)
        cells, strength = 2 * cells, _FALL * strength
    low, high = pixels.min(), pixels.max()
    levels = 255 * (pixels - low) / (high - low)
    levels += _NOISE * generator.standard_normal(levels.shape, np.float32)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def served(upload: Upload, spec: ImageSpec) -> Callable[[], object]:
    """The work of the server."""
    limits = ImageLimits()
    return lambda: decode_image(upload.data, spec, limits)


def trained(upload: Upload, spec: ImageSpec) -> Callable[[], object]:
    """The work of the evaluation in training."""
    data = DataConfig(image_size=spec.width, resize_shorter_side=spec.resize_shorter_side)
    transform = evaluation_transform(data)
    return lambda: transform(decode_whole(upload.data, upload.name))
