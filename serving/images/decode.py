"""bytes -> uint8 image tensor, bounded and safe.

Uploads are hostile until shown otherwise. The size is read from the file's header and checked
before anything is allocated for pixels. Colour profiles are ignored.

Pillow decodes: it is maintained, and its wheels bring libjpeg-turbo, libwebp and zlib-ng, so that
other decoders gain only what Pillow spends in Python; `benchmarks/studies/decoding.py` times it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage, RideError, SettingsError
from serving.images.files import (
    ACCEPTED,
    ImageFile,
    animated,
    damaged,
    format_of,
    orientation,
    read_image_file,
)
from serving.model.manifest import ImageSpec

MAX_ASPECT_RATIO = 50
"""The longer side over the shorter: what bounds the resized image, before its centre is cut out.
Less (but never below 4) where that image would have more pixels than the limit."""

DRAFT_FACTOR = 3
"""A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides stay at least so many times as
long as they are once resized. On 24 pictures of Matplotlib, scikit-image and scikit-learn the mean
difference from the whole image's result was at most 0.43 levels of 255, the largest 8; with a
factor of 2, 1.8 and 15."""

_LEAST_ASPECT_RATIO = 4
_PILLOW_WARNS_FROM_PIXELS = 89_478_485

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is decoded.

    Attributes:
        max_bytes: of the encoded image.
        max_pixels: width times height, as the file's header states it, also of a JPEG that is
            decoded at a smaller scale (a progressive one is held whole all the same). Decoding
            takes up to 20 bytes of memory a pixel.

    Raises:
        SettingsError: if a limit is not positive, or `max_pixels` is above 89,478,485 (beyond
            which Pillow takes every image for an attack).
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise SettingsError("the largest number of bytes of an image must be positive")
        if not 1 <= self.max_pixels <= _PILLOW_WARNS_FROM_PIXELS:
            raise SettingsError(
                "the largest number of pixels of an image must lie between 1 and "
                f"{_PILLOW_WARNS_FROM_PIXELS}, not {self.max_pixels}"
            )


def decode_image(data: bytes, spec: ImageSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """Decode one JPEG, PNG or WebP image and prepare it as in training.

    The Exif orientation is applied. Transparency is composited over white, as a page would show
    it; a transparent colour in a PNG of 2, 4 or 16 bits a sample is taken for opaque. Samples of
    16 bits keep their high byte. Greyscale, palette and CMYK become RGB. Then comes the evaluation
    transform: resize so that the shorter side has `spec.resize_shorter_side` pixels, cut out the
    centre; an image that has both sizes already comes out bit for bit. All this equals what
    torchvision does to a Pillow image bit for bit, but for a JPEG so large that it is decoded at a
    smaller scale (`DRAFT_FACTOR`), as Pillow's `Image.draft` does it.

    Returns:
        RGB, uint8 [spec.height, spec.width, 3], C-contiguous.

    Raises:
        ImageTooLarge: for more bytes or pixels than `limits` allow.
        InvalidImage: for bytes that are no image, of another format, damaged, cut short,
            animated, or far longer than wide.
    """
    _check_bytes(data, limits)
    try:
        file = read_image_file(data)
        _check_pixels(file, spec, limits)
        image = _decode(file, spec)
    except RideError:
        raise
    except Exception as error:
        # Hostile bytes make Pillow raise nearly anything; to the client it is all the same.
        raise damaged(format_of(data)) from error
    return np.array(_centre(_resize(image, spec), spec))


def _check_bytes(data: bytes, limits: ImageLimits) -> None:
    if not data:
        raise InvalidImage(f"the image is empty; send {ACCEPTED}")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"the image has {len(data)} bytes and at most {limits.max_bytes} are accepted; "
            "send a smaller file"
        )


def _check_pixels(file: ImageFile, spec: ImageSpec, limits: ImageLimits) -> None:
    short, long = sorted((file.width, file.height))
    size = f"{file.width} x {file.height} pixels"
    if short < 1:
        raise damaged(file.format)
    if short * long > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {size} and at most {limits.max_pixels} in all are accepted; "
            "scale it down"
        )
    fits = limits.max_pixels // spec.resize_shorter_side**2
    ratio = min(MAX_ASPECT_RATIO, max(_LEAST_ASPECT_RATIO, fits))
    if long > ratio * short:
        raise InvalidImage(
            f"the image has {size} and its longer side may be at most {ratio} times its shorter; "
            "crop it"
        )


def _decode(file: ImageFile, spec: ImageSpec) -> Image.Image:
    """Decode to RGB, upright; what was decoded at a smaller scale is resized as well."""
    size = (file.width, file.height)
    if file.rgb_rows:
        image = Image.frombytes("RGB", size, file.rgb_rows, "zip", "RGB")
        return _upright(image, file.exif)
    image = _opened(file)
    # For WebP it is Pillow that finds the Exif block; in the others it is cut out.
    exif = file.exif or image.info.get("exif", b"")
    resized = _resized(size, spec)
    draft = image.draft(None, (DRAFT_FACTOR * resized[0], DRAFT_FACTOR * resized[1]))
    image.load()
    rgb = _rgb(image)
    if draft is not None and image.size != size:
        # The box leaves out what was added to make up whole pixels of the smaller scale.
        rgb = rgb.resize(resized, _RESAMPLING[spec.interpolation], box=draft[1])
    return _upright(rgb, exif)


def _opened(file: ImageFile) -> Image.Image:
    image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if image.size != (file.width, file.height):
        raise damaged(file.format)
    if getattr(image, "n_frames", 1) > 1:
        raise animated(file.format)
    return image


def _upright(image: Image.Image, exif: bytes) -> Image.Image:
    turn = _TURNS.get(orientation(exif)) if exif else None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    if image.mode == "I;16":
        # Pillow clips here; the high byte is what it keeps of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


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
