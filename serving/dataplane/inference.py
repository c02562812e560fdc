"""The Open Inference Protocol without a transport: the models, and what a request asks of them.

Two models give the same answers: `ride` takes prepared images, `ride_image` encoded ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from serving.dataplane.catalogue import ModelDescription, no_such_model
from serving.dataplane.classification import Answer
from serving.dataplane.live_model import LiveModel
from serving.dataplane.service import ClassificationService
from serving.dataplane.shared_memory import EXTENSION as SHARED_MEMORY
from serving.dataplane.shared_memory import Piece, Place, SharedMemoryRegions
from serving.dataplane.tensors import Array, Datatype, TensorSpec, decode_raw, encode_raw
from serving.dataplane.urgency import take_urgency
from serving.engine.jobs import Urgency
from serving.errors import InvalidRequest
from serving.images.decoders import EncodedImage
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME
from serving.model.parameters import parse_cost_parameters, without_reserved
from serving.model.routing import Routed, RoutingRule
from serving.model.top_k import top_k_classes

Result = TypeVar("Result")

SERVER_NAME = "ride-server"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
PLATFORM = "ride_onnxruntime"

_OUTPUTS = ("probabilities", "experts_used", "router_scores")
_CLASSIFIED = "probabilities"
_QUICK_BYTES = 256 * 1024
"""More is copied off the event loop, so that nobody else waits for it."""


class ServedModel(NamedTuple):
    """A model that takes requests, and what answers them."""

    live: LiveModel
    description: ModelDescription

    @classmethod
    def of(cls, live: LiveModel, name: str, version: str | None) -> Self:
        """The model of that name.

        Raises:
            ModelNotFound: if there is none, or not in that version.
            InvalidRequest: if this is the name of a graph behind the models.
        """
        return cls(live, live.catalogue.find_for_requests(name, version))


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
    """An answer; `degraded` if too much load made it cost less than it asked for."""

    model: ModelDescription
    outputs: tuple[OutputTensor, ...]
    identity: str | None = None
    degraded: bool = False

    @property
    def parameters(self) -> dict[str, bool]:
        """What is said of it besides its outputs; nothing if it is as asked."""
        return {"degraded": True} if self.degraded else {}


class InferenceModels:
    """The models of a service, by the names that clients know."""

    def __init__(self, service: ClassificationService) -> None:
        self.service = service
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

    @property
    def live(self) -> LiveModel:
        """The version that new requests go to; a `with` block of it keeps it open.

        Raises:
            ModelNotFound: if it was unloaded.
        """
        return self.service.host.live

    def find(self, name: str, version: str | None) -> ModelDescription:
        """What is to be told of a model: one that clients call, or a graph behind it.

        Raises:
            ModelNotFound: if there is none, or not in that version.
        """
        return self.service.host.live.catalogue.find(name, version)

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        """A model's statistics, or those of all.

        Raises:
            ModelNotFound: if there is none, or not in that version.
        """
        live = self.service.host.live
        if name:
            live.catalogue.find(name, version)
        return {"model_stats": live.statistics.describe(name or None)}

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """Both models in every version of the repository, or in the one that is served."""
        states = await self.service.host.index()
        return [
            {
                "name": name,
                "version": state.version,
                "state": "READY" if state.ready else "UNAVAILABLE",
                "reason": state.reason,
            }
            for name in (MODEL_NAME, IMAGE_MODEL_NAME)
            for state in states
            if state.ready or not ready
        ]

    async def load(self, name: str, parameters: Collection[str]) -> None:
        """Load the latest version; both models are one. See `ModelHost.load`.

        Raises:
            ModelNotFound: if there is no model of this name.
            InvalidRequest: for parameters, which would bring a configuration or files.
        """
        _require_client_model(name)
        if parameters:
            raise InvalidRequest("a model is loaded as it is in the repository: no parameters")
        await self.service.host.load()

    async def unload(self, name: str) -> None:
        """Serve it no more. See `ModelHost.unload`.

        Raises:
            ModelNotFound: if there is no model of this name.
        """
        _require_client_model(name)
        await self.service.host.unload()

    async def infer(
        self, model: ServedModel, request: InferRequest, time_left_s: float | None = None
    ) -> InferResponse:
        """Answer a request; `time_left_s` is how long its transport will wait.

        Raises:
            InvalidRequest: for parameters out of range, an image that can't be read, too many rows,
                shared memory that does not hold the input or has no room for an output.
            RegionNotFound: if it names a region of shared memory that is not registered.
            DeadlineExceeded: if its own or its transport's deadline passes first.
            Overloaded: if too many images wait already.
        """
        # Found before any work is done, and held: they may be unregistered meanwhile.
        pieces = {
            output.name: self.shared_memory.piece(output.place)
            for output in request.outputs
            if output.place is not None
        }
        parameters = without_reserved(request.parameters)
        urgency = take_urgency(parameters, time_left_s)
        rule = model.live.rule(parse_cost_parameters(parameters))
        if isinstance(request.data, StoredInput):
            async with self._loaded(request.data) as data:
                answer = await self._answer(model, data, rule, urgency)
        else:
            answer = await self._answer(model, request.data, rule, urgency)
        names = model.live.engine.manifest.class_names
        outputs = tuple(_output(wanted, answer.routed, names) for wanted in request.outputs)
        response = InferResponse(model.description, outputs, request.identity, answer.degraded)
        return await _stored(response, pieces) if pieces else response

    @asynccontextmanager
    async def _loaded(self, data: StoredInput) -> AsyncIterator[Array]:
        """The array of an input in shared memory, copied."""
        with self.shared_memory.reading(data.place) as piece:
            yield await _off_loop(
                data.place.byte_size, lambda: decode_raw(piece.read(), data.spec, data.shape)
            )

    async def _answer(
        self, model: ServedModel, data: Array, rule: RoutingRule, urgency: Urgency
    ) -> Answer:
        if model.description.name == MODEL_NAME:
            return await self.service.infer(model.live, data, rule, urgency)
        images = [EncodedImage(file, f"row {row}") for row, file in enumerate(data.tolist())]
        return await self.service.infer_encoded(model.live, images, rule, urgency)


def _require_client_model(name: str) -> None:
    if name not in (MODEL_NAME, IMAGE_MODEL_NAME):
        raise no_such_model(name)


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
    best = top_k_classes(probabilities, classes)
    texts = np.empty(best.shape, dtype=object)
    for place, index in np.ndenumerate(best):
        text = f"{probabilities[place[0], index]:f}:{index}:{names[index]}"
        texts[place] = text.encode()
    return texts
