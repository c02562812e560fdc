"""The Open Inference Protocol without a transport: the models, and what a request asks of them.

Two models give the same answers: `ride` takes prepared images, `ride_image` encoded ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from serving.errors import InvalidRequest, ModelNotFound
from serving.manifest import MODEL_NAME, Manifest
from serving.parameters import parse_cost_parameters
from serving.routing import Routed
from serving.service import ClassificationService, EncodedImage
from serving.shared_memory import EXTENSION as SHARED_MEMORY
from serving.shared_memory import Piece, Place, SharedMemoryRegions
from serving.tensors import Array, Datatype, TensorSpec, decode_raw, encode_raw

Result = TypeVar("Result")

SERVER_NAME = "ride-server"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration")
PLATFORM = "ride_onnxruntime"
IMAGE_MODEL_NAME = "ride_image"

_OUTPUTS = ("probabilities", "experts_used", "router_scores")
_CLASSIFIED = "probabilities"
_RESERVED_PREFIX = "triton_"
_QUICK_BYTES = 256 * 1024
"""More is copied off the event loop, so that nobody else waits for it."""


@dataclass(frozen=True)
class ServedModel:
    """A model as clients see it. Its first dimension, the rows of a request, is free."""

    name: str
    version: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class WantedOutput:
    """An output that a request asks for.

    `binary` says whether it goes out as raw bytes (HTTP). With `classes`, the most probable classes
    are wanted in place of the tensor, as texts (Triton's classification extension). With `place`,
    it is not sent but put into shared memory.
    """

    name: str
    binary: bool = False
    classes: int = 0
    place: Place | None = None


@dataclass(frozen=True)
class StoredInput:
    """An input that lies in shared memory, in the form of its raw data."""

    place: Place
    spec: TensorSpec
    shape: tuple[int, ...]


@dataclass(frozen=True)
class InferRequest:
    """A request for one of the models: its input, parameters that cost or save compute, outputs."""

    data: Array | StoredInput
    parameters: Mapping[str, object]
    outputs: tuple[WantedOutput, ...]
    identity: str | None = None


@dataclass(frozen=True)
class OutputTensor:
    """An output of an answer; an array of objects holds BYTES.

    One that is `stored` lies in shared memory already and is not sent.
    """

    wanted: WantedOutput
    datatype: Datatype
    array: Array
    stored: bool = False


@dataclass(frozen=True)
class InferResponse:
    """An answer."""

    model: ServedModel
    outputs: tuple[OutputTensor, ...]
    identity: str | None = None


class InferenceModels:
    """The models of a service, by the names that clients know."""

    def __init__(self, service: ClassificationService) -> None:
        self.service = service
        engine = service.engine
        self._models = {
            model.name: model for model in served_models(engine.manifest, str(engine.version))
        }
        settings = service.settings
        self.shared_memory = SharedMemoryRegions(
            enabled=settings.shared_memory,
            max_input_bytes=settings.max_body_bytes,
            max_total_bytes=settings.max_total_body_bytes,
        )

    @property
    def extensions(self) -> tuple[str, ...]:
        """What is implemented of Triton's extensions and switched on."""
        return (*EXTENSIONS, SHARED_MEMORY) if self.shared_memory.enabled else EXTENSIONS

    def find(self, name: str, version: str | None) -> ServedModel:
        """The model of that name.

        Raises:
            ModelNotFound: if it, or that version of it, is not served.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(map(repr, self._models))
            raise ModelNotFound(f"there is no model {name[:100]!r}; there are: {known}")
        if version not in (None, "", model.version):
            raise ModelNotFound(
                f"version {version[:100]!r} of {name} is not served; version {model.version} is"
            )
        return model

    async def infer(self, model: ServedModel, request: InferRequest) -> InferResponse:
        """Answer a request.

        Raises:
            InvalidRequest: for parameters out of range, an image that can't be read, too many rows,
                shared memory that does not hold the input or has no room for an output.
            RegionNotFound: if it names a region of shared memory that is not registered.
            Overloaded: if too many images wait already.
        """
        # Found before any work is done, and held: they may be unregistered meanwhile.
        pieces = {
            output.name: self.shared_memory.piece(output.place)
            for output in request.outputs
            if output.place is not None
        }
        async with self._loaded(request.data) as data:
            response = await self._infer(model, data, request)
        return await _stored(response, pieces) if pieces else response

    @asynccontextmanager
    async def _loaded(self, data: Array | StoredInput) -> AsyncIterator[Array]:
        """An input's array, copied if it lies in shared memory."""
        if not isinstance(data, StoredInput):
            yield data
            return
        with self.shared_memory.reading(data.place) as piece:
            yield await _off_loop(
                data.place.byte_size, lambda: decode_raw(piece.read(), data.spec, data.shape)
            )

    async def _infer(self, model: ServedModel, data: Array, request: InferRequest) -> InferResponse:
        service = self.service
        parameters = parse_cost_parameters(_without_reserved(request.parameters))
        rule = service.rule(parameters)
        if model.name == MODEL_NAME:
            routed = await service.infer(data, rule)
        else:
            images = [EncodedImage(file, f"row {row}") for row, file in enumerate(data.tolist())]
            routed = await service.infer_encoded(images, rule)
        names = service.engine.manifest.class_names
        outputs = tuple(_output(wanted, routed, names) for wanted in request.outputs)
        return InferResponse(model, outputs, request.identity)


def served_models(manifest: Manifest, version: str) -> tuple[ServedModel, ServedModel]:
    """What a manifest's model takes and gives, under both names."""
    image, routers = manifest.image, manifest.num_experts - 1
    outputs = (
        TensorSpec("probabilities", Datatype.FP32, (-1, manifest.num_classes)),
        TensorSpec("experts_used", Datatype.INT32, (-1,)),
        TensorSpec("router_scores", Datatype.FP32, (-1, routers)),
    )
    pixels = TensorSpec("image", Datatype.UINT8, (-1, image.height, image.width, 3))
    files = TensorSpec("image_bytes", Datatype.BYTES, (-1,))
    return (
        ServedModel(MODEL_NAME, version, pixels, outputs),
        ServedModel(IMAGE_MODEL_NAME, version, files, outputs),
    )


def wanted_output(
    name: object, *, binary: bool = False, classes: object = 0, place: Place | None = None
) -> WantedOutput:
    """Check an output that a client names.

    Raises:
        InvalidRequest: if there is no such output, or it can't be classified.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequest("every output must have a name")
    if name not in _OUTPUTS:
        raise InvalidRequest(f"there is no output {name[:100]!r}; there are: {', '.join(_OUTPUTS)}")
    if type(classes) is not int or classes < 0:
        raise InvalidRequest("classification must be a whole number of classes, not negative")
    if classes and name != _CLASSIFIED:
        raise InvalidRequest(f"only the output {_CLASSIFIED!r} can be given as a classification")
    return WantedOutput(name, binary and place is None, classes, place)


def all_outputs(*, binary: bool) -> tuple[WantedOutput, ...]:
    """What a request gets that names no outputs."""
    return tuple(WantedOutput(name, binary) for name in _OUTPUTS)


def distinct(outputs: Iterable[WantedOutput]) -> tuple[WantedOutput, ...]:
    """Each output once, as it was asked for last."""
    return tuple({output.name: output for output in outputs}.values())


def _without_reserved(parameters: Mapping[str, object]) -> dict[str, object]:
    """What a user asked for: perf_analyzer adds parameters that Triton reserves for itself."""
    return {
        name: value for name, value in parameters.items() if not name.startswith(_RESERVED_PREFIX)
    }


async def _stored(response: InferResponse, pieces: Mapping[str, Piece]) -> InferResponse:
    """The answer once its outputs lie in shared memory; nothing is written unless all fit."""
    contents = {
        tensor.wanted.name: encode_raw(tensor.array)
        for tensor in response.outputs
        if tensor.wanted.name in pieces
    }
    for name, content in contents.items():
        pieces[name].require_room(name, len(content))
    for name, content in contents.items():
        await _off_loop(len(content), partial(pieces[name].write, content))
    outputs = (
        replace(tensor, stored=True) if tensor.wanted.name in contents else tensor
        for tensor in response.outputs
    )
    return replace(response, outputs=tuple(outputs))


async def _off_loop(byte_size: int, copy: Callable[[], Result]) -> Result:
    """Copy at once what is small, and on another thread what would make others wait."""
    return copy() if byte_size <= _QUICK_BYTES else await asyncio.to_thread(copy)


def _output(wanted: WantedOutput, routed: Routed, class_names: tuple[str, ...]) -> OutputTensor:
    if wanted.classes:
        texts = _top_classes(routed.probabilities, wanted.classes, class_names)
        return OutputTensor(wanted, Datatype.BYTES, texts)
    datatype = Datatype.INT32 if wanted.name == "experts_used" else Datatype.FP32
    return OutputTensor(wanted, datatype, getattr(routed, wanted.name))


def _top_classes(probabilities: Array, classes: int, names: tuple[str, ...]) -> Array:
    """The most probable classes of each row, best first, as texts `probability:index:name`."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    texts = np.empty(best.shape, dtype=object)
    for place, index in np.ndenumerate(best):
        text = f"{probabilities[place[0], index]:f}:{index}:{names[index]}"
        texts[place] = text.encode()
    return texts
