"""Encoded images -> pixels for the first stage, or why there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.blocks import Block
from scoring.reader import Chunk
from scoring.records import Fault, FaultKind
from serving.errors import ImageTooLarge, InvalidRequest
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import ImageSpec, Manifest
from serving.model.routing import RoutingRule, RoutingState


def decode_chunk(chunk: Chunk, manifest: Manifest, rule: RoutingRule, limits: ImageLimits) -> Block:
    """The images that can be decoded, before stage 1; any other is a fault of the chunk's part."""
    spec = manifest.image
    pixels = np.empty((len(chunk.images), spec.height, spec.width, 3), dtype=np.uint8)
    rows: list[int] = []
    for row, image in enumerate(chunk.images, start=chunk.first):
        decoded = image if isinstance(image, Fault) else _decoded(image, spec, limits)
        if isinstance(decoded, Fault):
            chunk.part.faults[row] = decoded
            continue
        pixels[len(rows)] = decoded
        rows.append(row)
    return Block(
        pixels[: len(rows)],
        RoutingState.start([rule] * len(rows), manifest.num_experts, manifest.num_classes),
        np.full(len(rows), chunk.part.key.code),
        np.array(rows, dtype=np.intp),
    )


def _decoded(image: bytes, spec: ImageSpec, limits: ImageLimits) -> NDArray[np.uint8] | Fault:
    if not image:
        return Fault(FaultKind.EMPTY, "the image has no bytes")
    try:
        return decode_image(image, spec, limits)
    except ImageTooLarge as error:
        return Fault(FaultKind.TOO_LARGE, str(error))
    except InvalidRequest as error:
        return Fault(FaultKind.INVALID, str(error))
