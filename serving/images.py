"""bytes -> uint8 image tensor, bounded and safe.

Uploads are hostile until shown otherwise. The size is read from the file's header and checked
before anything is allocated for pixels. Colour profiles are ignored.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage, RideError, SettingsError
from serving.image_files import (
    ACCEPTED,
    ImageFile,
    animated,
    damaged,
    format_of,
    orientation,
    read_image_file,
)
from serving.manifest import ImageSpec

MAX_ASPECT_RATIO = 50
"""The longer side over the shorter: what bounds the resized image, before its centre is cut out.
Less (but never below 4) where that image would have more pixels than the limit."""

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
        max_pixels: width times height, as the file's header states it. Decoding takes up to
            20 bytes of memory a pixel.

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
    centre; an image that has both sizes already comes out bit for bit.

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
        image = _decode(file)
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


def _decode(file: ImageFile) -> Image.Image:
    """Decode to RGB, upright."""
    image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if image.size != (file.width, file.height):
        raise damaged(file.format)
    if getattr(image, "n_frames", 1) > 1:
        raise animated(file.format)
    # For WebP it is Pillow that finds the Exif block; in the others it is cut out.
    exif = file.exif or image.info.get("exif", b"")
    image.load()
    turn = _TURNS.get(orientation(exif))
    rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


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
    """Resize as torchvision's `Resize(spec.resize_shorter_side)` does."""
    short, long = sorted(image.size)
    new_short = spec.resize_shorter_side
    new_long = int(new_short * long / short)
    new_size = (new_short, new_long) if image.width <= image.height else (new_long, new_short)
    if new_size == image.size:
        return image
    return image.resize(new_size, _RESAMPLING[spec.interpolation])


def _centre(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Cut out the centre as torchvision's `CenterCrop` does."""
    left = round((image.width - spec.width) / 2)
    top = round((image.height - spec.height) / 2)
    return image.crop((left, top, left + spec.width, top + spec.height))
