"""Encoded images -> pixels, or why there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.records import LIMITS, Fault, FaultKind
from serving.errors import ImageTooLarge, InvalidRequest
from serving.images.decode import decode_image
from serving.model.manifest import ImageSpec


def decoded_or_fault(image: bytes, spec: ImageSpec) -> NDArray[np.uint8] | Fault:
    """An image as the model takes it, uint8 [H, W, 3], or what is wrong with it."""
    if not image:
        return Fault(FaultKind.EMPTY, "the image has no bytes")
    try:
        return decode_image(image, spec, LIMITS)
    except ImageTooLarge as error:
        return Fault(FaultKind.TOO_LARGE, str(error))
    except InvalidRequest as error:
        return Fault(FaultKind.INVALID, str(error))
