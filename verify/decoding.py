"""Reads and decodes images, a bounded batch of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.records import LIMITS
from serving.errors import InvalidRequest
from serving.images.decode import decode_image
from serving.model.manifest import ImageSpec
from serving.tracing.terminal import escaped
from verify.images import NamedImage
from verify.responses import Rejection

_MOST_IMAGES = 256
_MOST_BYTES = 64 * 2**20
"""Of files, and of pixels, that are in memory at the same time; one image may be larger."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as it was and as the model takes it: uint8 [H, W, 3], or why it can't be decoded."""

    name: str
    file: bytes
    pixels: NDArray[np.uint8] | Rejection


def decoded_batches(images: Iterable[NamedImage], spec: ImageSpec) -> Iterator[list[DecodedImage]]:
    """All images in their order, in batches of at most 256 that take at most 64 MiB twice over."""
    most = max(1, min(_MOST_IMAGES, _MOST_BYTES // (spec.height * spec.width * 3)))
    batch: list[DecodedImage] = []
    size = 0
    for image in images:
        batch.append(DecodedImage(image.name, image.data, _decoded(image.data, spec)))
        size += len(image.data)
        if len(batch) == most or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _decoded(data: bytes, spec: ImageSpec) -> NDArray[np.uint8] | Rejection:
    try:
        return decode_image(data, spec, LIMITS)
    except InvalidRequest as error:
        return Rejection(escaped(str(error)))
