"""Tensors of the Open Inference Protocol: datatypes, shapes and raw bytes.

Raw data is little-endian and row-major; an element of BYTES is its length, a uint32, and then its
bytes (Triton's "binary tensor data" extension).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest, RequestTooLarge
from serving.model.manifest import Manifest

Array = NDArray[Any]

_LENGTH = struct.Struct("<I")


class Datatype(StrEnum):
    """The protocol's names of the datatypes that our models use."""

    UINT8 = "UINT8"
    INT32 = "INT32"
    FP32 = "FP32"
    BYTES = "BYTES"

    @property
    def config_name(self) -> str:
        """Its name in a model's configuration."""
        return "TYPE_STRING" if self is Datatype.BYTES else f"TYPE_{self}"


_NUMPY_TYPES = {Datatype.UINT8: "<u1", Datatype.INT32: "<i4", Datatype.FP32: "<f4"}


@dataclass(frozen=True)
class TensorSpec:
    """What a model takes or gives under a name; -1 in `shape` is any number of rows.

    A request may bring `most_rows` at most, so that no more are made of its bytes.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    most_rows: int | None = None

    def check(self, datatype: object, shape: Sequence[object]) -> tuple[int, ...]:
        """The shape, if a tensor of this datatype and shape is one of these.

        Raises:
            InvalidRequest: if it is not.
            RequestTooLarge: if it has too many rows.
        """
        if datatype != self.datatype:
            raise InvalidRequest(f"the input {self.name!r} must have the datatype {self.datatype}")
        if self.datatype is Datatype.BYTES and len(shape) == 2 and shape[1] == 1:
            shape = shape[:1]  # MLServer's codecs write every list as a column
        if len(shape) != len(self.shape):
            raise InvalidRequest(f"{self._wanted}, and it has {len(shape)} dimensions")
        sizes = tuple(size for size in shape if type(size) is int and size > 0)
        if len(sizes) != len(shape):
            raise InvalidRequest("every number in shape must be a whole number above 0")
        if any(own not in {-1, size} for own, size in zip(self.shape, sizes, strict=True)):
            raise InvalidRequest(f"{self._wanted}, not {list(sizes)}")
        if self.most_rows is not None and sizes[0] > self.most_rows:
            raise RequestTooLarge(f"a request may hold {self.most_rows} images, not {sizes[0]}")
        return sizes

    @property
    def _wanted(self) -> str:
        shape = ", ".join("N" if size == -1 else str(size) for size in self.shape)
        return f"the input {self.name!r} must have the shape [{shape}]"


def image_tensor(manifest: Manifest) -> TensorSpec:
    """What the model takes of N images: their pixels."""
    image = manifest.image
    return TensorSpec("image", Datatype.UINT8, (-1, image.height, image.width, 3))


def answer_tensors(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """What comes of N images: probabilities, experts_used, router_scores."""
    return (
        TensorSpec("probabilities", Datatype.FP32, (-1, manifest.num_classes)),
        TensorSpec("experts_used", Datatype.INT32, (-1,)),
        TensorSpec("router_scores", Datatype.FP32, (-1, manifest.num_experts - 1)),
    )


def decode_raw(raw: bytes | memoryview, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """An input's raw data as an array of `shape`; BYTES become Python bytes in an object array.

    Raises:
        InvalidRequest: if there are more or fewer data than the shape says.
    """
    if spec.datatype is Datatype.BYTES:
        return _decode_bytes(raw, spec.name, math.prod(shape)).reshape(shape)
    kind = np.dtype(_NUMPY_TYPES[spec.datatype])
    wanted = math.prod(shape) * kind.itemsize
    if len(raw) != wanted:
        raise InvalidRequest(
            f"the input {spec.name!r} has {len(raw)} bytes, and its shape {list(shape)} "
            f"has {wanted}"
        )
    return np.frombuffer(raw, kind).reshape(shape)


def _decode_bytes(raw: bytes | memoryview, name: str, count: int) -> Array:
    elements: list[bytes] = []
    offset = 0
    while offset < len(raw):
        start = offset + _LENGTH.size
        if len(elements) == count or start > len(raw):
            break
        offset = start + _LENGTH.unpack_from(raw, offset)[0]
        elements.append(bytes(raw[start:offset]))
    if offset != len(raw) or len(elements) != count:
        raise InvalidRequest(
            f"the input {name!r} must hold {count} elements, each a length (uint32, little-endian) "
            "and as many bytes"
        )
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array


def encode_raw(array: Array) -> bytes:
    """An output's raw data; elements of object arrays are Python bytes."""
    if array.dtype == object:
        return b"".join(_LENGTH.pack(len(element)) + element for element in array.ravel())
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
