"""The Open Inference Protocol's JSON (https://kserve.github.io/website, "V2 inference protocol").

Translates between its documents and numpy arrays; knows no web framework.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.errors import InvalidRequest
from serving.manifest import MODEL_NAME, Manifest
from serving.parameters import CostParameters, parse_cost_parameters
from serving.routing import Routed

SERVER_NAME = "ride-server"
INPUT_NAME = "image"
_OUTPUTS = ("probabilities", "experts_used", "router_scores")
_CLIENT_PARAMETERS = {"binary_data_output"}
"""Parameters that tritonclient adds by itself; answers are JSON whatever it says."""


@dataclass(frozen=True)
class InferRequest:
    """A parsed request: images uint8 [N, H, W, 3], cost parameters, the outputs that are wanted."""

    identity: str | None
    images: NDArray[np.uint8]
    parameters: CostParameters
    outputs: tuple[str, ...]


def server_metadata(version: str) -> dict[str, Any]:
    """`GET /v2`."""
    return {"name": SERVER_NAME, "version": version, "extensions": []}


def model_metadata(manifest: Manifest, version: int) -> dict[str, Any]:
    """`GET /v2/models/ride`."""
    image, routers = manifest.image, manifest.num_experts - 1
    return {
        "name": MODEL_NAME,
        "versions": [str(version)],
        "platform": "ride_onnxruntime",
        "inputs": [_tensor(INPUT_NAME, "UINT8", [-1, image.height, image.width, 3])],
        "outputs": [
            _tensor("probabilities", "FP32", [-1, manifest.num_classes]),
            _tensor("experts_used", "INT32", [-1]),
            _tensor("router_scores", "FP32", [-1, routers]),
        ],
    }


def parse_infer_request(body: bytes) -> InferRequest:
    """Read the body of an infer request.

    Raises:
        InvalidRequest: naming the field and what is wrong with it.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidRequest("id must be a text")
    parameters = _object(document.get("parameters", {}), "parameters")
    wanted = {name: value for name, value in parameters.items() if name not in _CLIENT_PARAMETERS}
    return InferRequest(
        identity,
        _images(document.get("inputs")),
        parse_cost_parameters(wanted),
        _wanted_outputs(document.get("outputs")),
    )


def infer_response(request: InferRequest, routed: Routed, version: int) -> bytes:
    """The body of the answer. A router that was not asked has the score null (NaN)."""
    tensors = {
        "probabilities": ("FP32", routed.probabilities),
        "experts_used": ("INT32", routed.experts_used),
        "router_scores": ("FP32", routed.router_scores),
    }
    outputs = []
    for name in request.outputs:
        datatype, array = tensors[name]
        data = np.ascontiguousarray(array).ravel()
        outputs.append({**_tensor(name, datatype, list(array.shape)), "data": data})
    document: dict[str, Any] = {"model_name": MODEL_NAME, "model_version": str(version)}
    if request.identity is not None:
        document["id"] = request.identity
    document["outputs"] = outputs
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be a JSON object")
    return value


def _images(inputs: object) -> NDArray[np.uint8]:
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise InvalidRequest(f"inputs must be a list of one tensor, {INPUT_NAME!r}")
    tensor = _object(inputs[0], "inputs[0]")
    if tensor.get("name") != INPUT_NAME:
        raise InvalidRequest(f"the input must be named {INPUT_NAME!r}")
    if tensor.get("datatype") != "UINT8":
        raise InvalidRequest(f"the input {INPUT_NAME!r} must have the datatype UINT8")
    if "data" not in tensor:
        raise InvalidRequest(
            f"the input {INPUT_NAME!r} has no data; this server reads tensors as JSON only "
            "(with tritonclient: set_data_from_numpy(.., binary_data=False))"
        )
    return _pixels(tensor["data"], _shape(tensor.get("shape")))


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 4:
        raise InvalidRequest("shape must be a list of four whole numbers, [N, H, W, 3]")
    if not all(type(size) is int and size > 0 for size in value):
        raise InvalidRequest("every number in shape must be a whole number above 0")
    return tuple(value)


def _pixels(data: object, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        values = np.asarray(data)
    except ValueError:
        raise InvalidRequest("data must be a flat list, or nested as deep as the shape") from None
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise InvalidRequest("data must hold whole numbers between 0 and 255 and nothing else")
    if values.size != math.prod(shape):
        raise InvalidRequest(
            f"data holds {values.size} numbers, and shape {list(shape)} has {math.prod(shape)}"
        )
    if values.ndim != 1 and values.shape != shape:
        raise InvalidRequest(
            f"data is nested as {list(values.shape)}, and shape says {list(shape)}"
        )
    return values.astype(np.uint8).reshape(shape)


def _wanted_outputs(value: object) -> tuple[str, ...]:
    if value is None or value == []:
        return _OUTPUTS
    if not isinstance(value, list):
        raise InvalidRequest("outputs must be a list")
    return tuple(dict.fromkeys(_output_name(_object(output, "an output")) for output in value))


def _output_name(output: Mapping[str, Any]) -> str:
    name = output.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("every output must have a name")
    if name not in _OUTPUTS:
        raise InvalidRequest(f"there is no output {name[:100]!r}; there are: {', '.join(_OUTPUTS)}")
    return name
