"""The Open Inference Protocol without a transport: what a request asks, and what it gets.

Two models give the same answers: `ride` takes prepared images, `ride_image` encoded ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.classification import Answer
from serving.dataplane.shared_memory import Place
from serving.dataplane.tensors import Array, Datatype, TensorSpec
from serving.errors import InvalidRequest
from serving.model.routing import Routed
from serving.model.top_k import top_k_classes

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

OUTPUTS = ("probabilities", "experts_used", "router_scores")
_CLASSIFIED = "probabilities"


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


def wanted_output(
    name: object, *, binary: bool = False, classes: object = 0, place: Place | None = None
) -> WantedOutput:
    """Check an output that a client names.

    Raises:
        InvalidRequest: if there is no such output, or it can't be classified.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequest("every output must have a name")
    if name not in OUTPUTS:
        raise InvalidRequest(f"there is no output {name[:100]!r}; there are: {', '.join(OUTPUTS)}")
    if type(classes) is not int or classes < 0:
        raise InvalidRequest("classification must be a whole number of classes, not negative")
    if classes and name != _CLASSIFIED:
        raise InvalidRequest(f"only the output {_CLASSIFIED!r} can be given as a classification")
    return WantedOutput(name, binary and place is None, classes, place)


def all_outputs(*, binary: bool) -> tuple[WantedOutput, ...]:
    """What a request gets that names no outputs."""
    return tuple(WantedOutput(name, binary) for name in OUTPUTS)


def distinct(outputs: Iterable[WantedOutput]) -> tuple[WantedOutput, ...]:
    """Each output once, as it was asked for last."""
    return tuple({output.name: output for output in outputs}.values())


def response_of(
    model: ModelDescription, request: InferRequest, answer: Answer, class_names: Sequence[str]
) -> InferResponse:
    """What a request gets of an answer: the outputs that it wants, as it wants them."""
    outputs = tuple(_output(wanted, answer.routed, class_names) for wanted in request.outputs)
    return InferResponse(model, outputs, request.identity, answer.degraded)


def _output(wanted: WantedOutput, routed: Routed, class_names: Sequence[str]) -> OutputTensor:
    if wanted.classes:
        texts = _top_classes(routed.probabilities, wanted.classes, class_names)
        return OutputTensor(wanted, Datatype.BYTES, texts)
    datatype = Datatype.INT32 if wanted.name == "experts_used" else Datatype.FP32
    return OutputTensor(wanted, datatype, getattr(routed, wanted.name))


def _top_classes(probabilities: Array, classes: int, names: Sequence[str]) -> Array:
    """The most probable classes of each row, best first, as texts `probability:index:name`."""
    best = top_k_classes(probabilities, classes)
    texts = np.empty(best.shape, dtype=object)
    for place, index in np.ndenumerate(best):
        text = f"{probabilities[place[0], index]:f}:{index}:{names[int(index)]}"
        texts[place] = text.encode()
    return texts
