"""The Open Inference Protocol over HTTP: JSON documents, and raw tensors behind them.

Protocol: https://kserve.github.io/website, "Open Inference Protocol". Raw tensors are Triton's
"binary tensor data" extension: the body is JSON and then the tensors' bytes, and a header says how
long the JSON is. Knows no web framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from serving.dataplane.inference import (
    InferRequest,
    InferResponse,
    OutputTensor,
    StoredInput,
    WantedOutput,
    all_outputs,
    distinct,
    wanted_output,
)
from serving.dataplane.shared_memory import parse_place
from serving.dataplane.tensors import Array, Datatype, TensorSpec, decode_raw, encode_raw
from serving.errors import InvalidRequest

HEADER_LENGTH = "Inference-Header-Content-Length"
_BINARY_OUTPUT = "binary_data_output"
_MAX_LENGTH_DIGITS = 18


@dataclass(frozen=True)
class InferBody:
    """The body of an answer; `header_length` is that of its JSON where raw tensors follow it."""

    content: bytes
    header_length: int | None = None


def parse_infer_request(
    body: bytes, spec: TensorSpec, header_length: str | None = None
) -> InferRequest:
    """Read the body of an infer request.

    Args: the body, the one input of the model that it is for, and the header `HEADER_LENGTH` if
    there is one. With a length of 0 the body is nothing but the input's raw data, a single row of
    BYTES or any number of rows of pixels; all outputs are then answered in raw form.

    Raises:
        InvalidRequest: naming the field and what is wrong with it.
    """
    length = _json_length(body, header_length)
    if header_length is not None and not length:
        return InferRequest(_raw_input(body, spec), {}, all_outputs(binary=True))
    document = _parse(body[:length] if length < len(body) else body)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidRequest("id must be a text")
    parameters = _parameters(document, "parameters")
    binary = _flag(parameters.pop(_BINARY_OUTPUT, False), _BINARY_OUTPUT)
    return InferRequest(
        _input(document.get("inputs"), spec, memoryview(body)[length:]),
        parameters,
        _wanted_outputs(document.get("outputs"), binary=binary),
        identity,
    )


def infer_body(response: InferResponse) -> InferBody:
    """The body of an answer. In JSON, a router that was not asked has the score null (NaN)."""
    document: dict[str, Any] = {
        "model_name": response.model.name,
        "model_version": response.model.version,
    }
    if response.identity is not None:
        document["id"] = response.identity
    if response.parameters:
        document["parameters"] = response.parameters
    raw = [encode_raw(tensor.array) for tensor in response.outputs if tensor.wanted.binary]
    sizes = iter(map(len, raw))
    document["outputs"] = [
        _output(tensor, next(sizes) if tensor.wanted.binary else None)
        for tensor in response.outputs
    ]
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return InferBody(b"".join((head, *raw)), len(head)) if raw else InferBody(head)


def _output(tensor: OutputTensor, raw_size: int | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": tensor.wanted.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.array.shape),
    }
    if tensor.stored:
        # No parameters: Triton's C++ client takes any for those of raw data.
        return described
    if raw_size is not None:
        return {**described, "parameters": {"binary_data_size": raw_size}}
    if tensor.datatype is Datatype.BYTES:
        data: object = [element.decode() for element in tensor.array.ravel()]
    else:
        data = np.ascontiguousarray(tensor.array).ravel()
    return {**described, "data": data}


def _json_length(body: bytes, header: str | None) -> int:
    if header is None:
        return len(body)
    # Very long numbers would take Python long, or make it raise.
    known = header.isascii() and header.isdigit() and len(header) <= _MAX_LENGTH_DIGITS
    if not known or int(header) > len(body):
        raise InvalidRequest(
            f"{HEADER_LENGTH} must be the length of the body's JSON in bytes, at most {len(body)}, "
            f"not {header[:100]!r}"
        )
    return int(header)


def _raw_input(body: bytes, spec: TensorSpec) -> Array:
    if spec.datatype is Datatype.BYTES:
        array = np.empty(1, dtype=object)
        array[0] = body
        return array
    row = int(np.prod(spec.shape[1:]))
    if not body or len(body) % row:
        raise InvalidRequest(f"a raw body must hold whole images of {row} bytes, not {len(body)}")
    return decode_raw(body, spec, (len(body) // row, *spec.shape[1:]))


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be a JSON object")
    return value


def _parameters(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Those that are given: many clients write null for what they leave out."""
    given = of.get("parameters")
    if given is None:
        return {}
    return {key: value for key, value in _object(given, name).items() if value is not None}


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false")
    return value


def _input(inputs: object, spec: TensorSpec, raw: memoryview) -> Array | StoredInput:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise InvalidRequest(f"inputs must be a list of one tensor, {spec.name!r}")
    tensor = _object(inputs[0], "inputs[0]")
    if tensor.get("name") != spec.name:
        raise InvalidRequest(f"the input must be named {spec.name!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list):
        raise InvalidRequest("shape must be a list of whole numbers")
    sizes = spec.check(tensor.get("datatype"), shape)
    parameters = _parameters(tensor, "the input's parameters")
    size, place = parameters.get("binary_data_size"), parse_place(parameters)
    has_data = tensor.get("data") is not None
    if place is not None:
        if has_data or size is not None or len(raw):
            raise InvalidRequest(f"the input {spec.name!r} lies in shared memory, and is sent too")
        return StoredInput(place, spec, sizes)
    if size is None:
        if len(raw):
            raise InvalidRequest(f"{len(raw)} bytes follow the JSON, and no input claims them")
        return _json_data(tensor, spec, sizes)
    if has_data:
        raise InvalidRequest(
            f"the input {spec.name!r} has data and binary_data_size: one is enough"
        )
    if type(size) is not int or size != len(raw):
        raise InvalidRequest(
            f"binary_data_size must be the number of bytes that follow the JSON, {len(raw)}"
        )
    return decode_raw(raw, spec, sizes)


def _json_data(tensor: Mapping[str, Any], spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if tensor.get("data") is None:
        raise InvalidRequest(f"the input {spec.name!r} has neither data nor binary_data_size")
    if spec.datatype is Datatype.BYTES:
        return _texts(tensor["data"], shape)
    return _pixels(tensor["data"], shape)


def _texts(data: object, shape: tuple[int, ...]) -> Array:
    """BYTES as JSON holds them; what image files become of base64 is seen when they are decoded."""
    if not isinstance(data, list):
        raise InvalidRequest("data must be a list")
    elements = np.array(data, dtype=object).ravel()
    if elements.size != np.prod(shape, dtype=object):
        raise InvalidRequest(
            f"data holds {elements.size} elements, and shape {list(shape)} "
            f"has {np.prod(shape, dtype=object)}"
        )
    array = np.empty(elements.size, dtype=object)
    array[:] = [_text(element).encode() for element in elements]
    return array.reshape(shape)


def _text(element: object) -> str:
    """A text, or what TensorFlow Serving's clients write for one of base64: {"b64": ".."}."""
    if isinstance(element, dict) and list(element) == ["b64"]:
        element = element["b64"]
    if not isinstance(element, str):
        raise InvalidRequest('data must hold texts of base64, or objects {"b64": ".."}')
    return element


def _pixels(data: object, shape: tuple[int, ...]) -> Array:
    try:
        values = np.asarray(data)
    except ValueError:
        raise InvalidRequest("data must be a flat list, or nested as deep as the shape") from None
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise InvalidRequest("data must hold whole numbers between 0 and 255 and nothing else")
    if values.size != np.prod(shape, dtype=object):
        raise InvalidRequest(
            f"data holds {values.size} numbers, and shape {list(shape)} "
            f"has {np.prod(shape, dtype=object)}"
        )
    if values.ndim != 1 and values.shape != shape:
        raise InvalidRequest(
            f"data is nested as {list(values.shape)}, and shape says {list(shape)}"
        )
    return values.astype(np.uint8).reshape(shape)


def _wanted_outputs(value: object, *, binary: bool) -> tuple[WantedOutput, ...]:
    if value is None or value == []:
        return all_outputs(binary=binary)
    if not isinstance(value, list):
        raise InvalidRequest("outputs must be a list")
    wanted = [_wanted_output(_object(output, "an output"), binary=binary) for output in value]
    return distinct(wanted)


def _wanted_output(output: Mapping[str, Any], *, binary: bool) -> WantedOutput:
    parameters = _parameters(output, "an output's parameters")
    return wanted_output(
        output.get("name"),
        binary=_flag(parameters.get("binary_data", binary), "binary_data"),
        classes=parameters.get("classification", 0),
        place=parse_place(parameters),
    )
