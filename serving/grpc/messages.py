"""Messages of the Open Inference Protocol, as they ship in tritonclient: read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.inference import (
    PLATFORM,
    InferRequest,
    InferResponse,
    StoredInput,
    WantedOutput,
    all_outputs,
    distinct,
    wanted_output,
)
from serving.dataplane.shared_memory import parse_place
from serving.dataplane.tensors import Array, Datatype, TensorSpec, decode_raw, encode_raw
from serving.errors import InvalidRequest

_SELECTIONS_KEPT = 256


def parse_infer_message(message: Any, spec: TensorSpec) -> InferRequest:
    """Read a `ModelInferRequest` to a model of one input: raw or typed contents.

    Raises:
        InvalidRequest: naming the field and what is wrong with it.
    """
    if len(message.inputs) != 1 or message.inputs[0].name != spec.name:
        raise InvalidRequest(f"there must be one input, {spec.name!r}")
    tensor = message.inputs[0]
    shape = spec.check(tensor.datatype, list(tensor.shape))
    return InferRequest(
        _input(tensor, message.raw_input_contents, spec, shape),
        _parameters(message.parameters),
        _wanted_outputs(message.outputs),
        message.id or None,
    )


def infer_message(response: InferResponse) -> Any:
    """A `ModelInferResponse`, its outputs raw; a router that was not asked has the score NaN."""
    return service_pb2.ModelInferResponse(
        model_name=response.model.name,
        model_version=response.model.version,
        id=response.identity or "",
        parameters={
            name: service_pb2.InferParameter(bool_param=value)
            for name, value in response.parameters.items()
        },
        outputs=[
            service_pb2.ModelInferResponse.InferOutputTensor(
                name=tensor.wanted.name, datatype=tensor.datatype, shape=tensor.array.shape
            )
            for tensor in response.outputs
        ],
        # Clients count on one each, empty where the output lies in shared memory.
        raw_output_contents=[
            b"" if tensor.stored else encode_raw(tensor.array) for tensor in response.outputs
        ],
    )


def _input(tensor: Any, raw: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array | StoredInput:
    place = parse_place(_parameters(tensor.parameters))
    if place is None:
        return _data(tensor, raw, spec, shape)
    if raw or tensor.HasField("contents"):
        raise InvalidRequest(f"the input {spec.name!r} lies in shared memory, and is sent too")
    return StoredInput(place, spec, shape)


def _data(tensor: Any, raw: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if len(raw) > 1:
        raise InvalidRequest(f"there are {len(raw)} raw contents for one input")
    if raw:
        if tensor.HasField("contents"):
            raise InvalidRequest(f"the input {spec.name!r} has raw contents and typed ones")
        return decode_raw(raw[0], spec, shape)
    field = "bytes_contents" if spec.datatype is Datatype.BYTES else "uint_contents"
    if others := {found.name for found, _ in tensor.contents.ListFields()} - {field}:
        raise InvalidRequest(f"the input {spec.name!r} has its data in {field}, not {min(others)}")
    if spec.datatype is Datatype.BYTES:
        elements = tensor.contents.bytes_contents
        packed = b"".join(len(each).to_bytes(4, "little") + each for each in elements)
        return decode_raw(packed, spec, shape)
    values = tensor.contents.uint_contents
    try:
        return decode_raw(bytes(values), spec, shape)
    except ValueError:
        raise InvalidRequest("uint_contents must hold numbers from 0 to 255") from None


def _parameters(parameters: Mapping[str, Any]) -> dict[str, object]:
    return dict(_parameter_values(parameters)) if parameters else {}


def _parameter_values(parameters: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequest(f"the parameter {name[:100]!r} has no value")
        yield name, getattr(value, kind)


def _wanted_outputs(outputs: Any) -> tuple[WantedOutput, ...]:
    if not any(output.parameters for output in outputs):
        return _plain_outputs(tuple(output.name for output in outputs))
    return distinct(
        _wanted_output(output.name, _parameters(output.parameters)) for output in outputs
    )


@lru_cache(_SELECTIONS_KEPT)  # most requests want the same few
def _plain_outputs(names: tuple[str, ...]) -> tuple[WantedOutput, ...]:
    if not names:
        return all_outputs(binary=True)
    return distinct(wanted_output(name, binary=True) for name in names)


def _wanted_output(name: str, parameters: Mapping[str, object]) -> WantedOutput:
    classes, place = parameters.get("classification", 0), parse_place(parameters)
    return wanted_output(name, binary=True, classes=classes, place=place)


def metadata_message(model: ModelDescription) -> Any:
    """A `ModelMetadataResponse`: inputs and outputs of a model."""
    return service_pb2.ModelMetadataResponse(
        name=model.name,
        versions=[model.version],
        platform=PLATFORM,
        inputs=[_described(spec) for spec in model.inputs],
        outputs=[_described(output) for output in model.outputs],
    )


def _described(spec: TensorSpec) -> Any:
    return service_pb2.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def config_message(model: ModelDescription) -> Any:
    """A `ModelConfigResponse`: a model's configuration."""

    def described(kind: Any, spec: TensorSpec) -> Any:
        datatype = getattr(model_config_pb2, spec.datatype.config_name)
        return kind(name=spec.name, data_type=datatype, dims=spec.shape)

    config = model_config_pb2.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        max_batch_size=0,
        input=[described(model_config_pb2.ModelInput, spec) for spec in model.inputs],
        output=[described(model_config_pb2.ModelOutput, output) for output in model.outputs],
    )
    return service_pb2.ModelConfigResponse(config=config)
