"""bytes -> uint8 image tensor, bounded and safe.

Uploads are hostile until shown otherwise. The size is read from the file's header and checked
before anything is allocated for pixels. Colour profiles are ignored.

Pillow decodes: it is maintained, and its wheels bring libjpeg-turbo, libwebp and zlib-ng, so that
other decoders gain only what Pillow spends in Python; `benchmarks/studies/decoding.py` times it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage, RideError, SettingsError
from serving.images.containers.image_file import ImageFile, animated, damaged
from serving.images.files import read_image_file
from serving.images.formats import BY_DEFAULT, accepted, chosen, format_of
from serving.images.rgb import (
    MAX_ASPECT_RATIO,
    MOST_PIXELS,
    check_size,
    exif_of,
    opened,
    to_rgb,
    upright,
    whole,
)
from serving.model.manifest import ImageSpec

DRAFT_FACTOR = 3
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides stay at least so many times as
long as they are once resized. On 24 pictures of Matplotlib, scikit-image and scikit-learn the mean
difference from the whole image's result was at most 0.43 levels of 255, the largest 8; with a
factor of 2, 1.8 and 15."""

_LEAST_ASPECT_RATIO = 4

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class ImageLimits:
    """Which images are decoded, and how large they may be.

    Attributes:
        max_bytes: of the encoded image.
        max_pixels: width times height, as the file's header states it, also of a JPEG that is
            decoded at a smaller scale (a progressive one is held whole all the same). Decoding
            takes up to 20 bytes of memory a pixel.
        formats: keys of `serving.images.formats`.

    Raises:
        SettingsError: if a limit is not positive, there is no such format, or `max_pixels` is
            above 89,478,485 (beyond which Pillow takes every image for an attack).
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = BY_DEFAULT

    def __post_init__(self) -> None:
        chosen(self.formats)
        if self.max_bytes < 1:
            raise SettingsError("the largest number of bytes of an image must be positive")
        if not 1 <= self.max_pixels <= MOST_PIXELS:
            raise SettingsError(
                "the largest number of pixels of an image must lie between 1 and "
                f"{MOST_PIXELS}, not {self.max_pixels}"
            )


def decode_image(data: bytes, spec: ImageSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """Decode one image file and prepare it as in training.

    The Exif orientation is applied. Transparency is composited over white, as a page would show
    it; a transparent colour in a PNG of 2, 4 or 16 bits a sample is taken for opaque. Samples of
    16 bits keep the high byte of what means something in them (`serving.images.samples`).
    Greyscale, palette and CMYK become RGB. A JPEG without its end marker is decoded if all its
    pixels are there. Then comes the evaluation transform: resize so that the shorter side has
    `spec.resize_shorter_side` pixels, cut out the centre; an image that has both sizes already
    comes out bit for bit. All this equals what torchvision does to a Pillow image bit for bit, but
    for a JPEG so large that it is decoded at a smaller scale (`DRAFT_FACTOR`), as Pillow's
    `Image.draft` does it.

    Returns:
        RGB, uint8 [spec.height, spec.width, 3], C-contiguous.

    Raises:
        ImageTooLarge: for more bytes or pixels than `limits` allow.
        InvalidImage: for bytes that are no image, of another format, damaged, cut short,
            animated, or far longer than wide.
    """
    _check_bytes(data, limits)
    try:
        file = read_image_file(data, limits.formats)
        _check_pixels(file, spec, limits)
        image = _decode(file, spec)
    except RideError:
        raise
    except Exception as error:
        # Hostile bytes make Pillow raise nearly anything; to the client it is all the same.
        raise damaged(format_of(data, limits.formats).name) from error
    return np.array(_centre(_resize(image, spec), spec))


def _check_bytes(data: bytes, limits: ImageLimits) -> None:
    if not data:
        raise InvalidImage(f"the image is empty; send {accepted(limits.formats)}")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"the image has {len(data)} bytes and at most {limits.max_bytes} are accepted; "
            "send a smaller file"
        )


def _check_pixels(file: ImageFile, spec: ImageSpec, limits: ImageLimits) -> None:
    if not file.width or not file.height:
        raise damaged(file.format)
    # A long image gets many pixels when its shorter side is resized, before its centre is cut out.
    fits = limits.max_pixels // spec.resize_shorter_side**2
    ratio = min(MAX_ASPECT_RATIO, max(_LEAST_ASPECT_RATIO, fits))
    check_size((file.width, file.height), limits.max_pixels, ratio)


def _decode(file: ImageFile, spec: ImageSpec) -> Image.Image:
    """Decode to RGB, upright; what was decoded at a smaller scale is resized as well."""
    if file.animated:
        raise animated(file.format)
    if file.rows:
        return whole(file)
    size = (file.width, file.height)
    image = opened(file)
    if getattr(image, "n_frames", 1) > 1:
        raise animated(file.format)
    resized = _resized(size, spec)
    draft = image.draft(None, (DRAFT_FACTOR * resized[0], DRAFT_FACTOR * resized[1]))
    image.load()
    rgb = to_rgb(image, file.significant)
    if draft is not None and image.size != size:
        # The box leaves out what was added to make up whole pixels of the smaller scale.
        rgb = rgb.resize(resized, _RESAMPLING[spec.interpolation], box=draft[1])
    return upright(rgb, exif_of(file, image))


def _resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
    size = _resized(image.size, spec)
    return image if size == image.size else image.resize(size, _RESAMPLING[spec.interpolation])


def _resized(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """The width and height that torchvision's `Resize(spec.resize_shorter_side)` makes of others.

    They make the same of themselves.
    """
    width, height = size
    new_short = spec.resize_shorter_side
    new_long = int(new_short * max(size) / min(size))
    return (new_short, new_long) if width <= height else (new_long, new_short)


def _centre(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Cut out the centre as torchvision's `CenterCrop` does."""
    if image.size == (spec.width, spec.height):
        return image
    left = round((image.width - spec.width) / 2)
    top = round((image.height - spec.height) / 2)
    return image.crop((left, top, left + spec.width, top + spec.height))
