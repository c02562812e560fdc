"""The Open Inference Protocol without a transport: the models, and what a request asks of them.

Two models give the same answers: `ride` takes prepared images, `ride_image` encoded ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from serving.errors import InvalidRequest, ModelNotFound
from serving.manifest import MODEL_NAME, Manifest
from serving.parameters import parse_cost_parameters
from serving.routing import Routed
from serving.service import ClassificationService, EncodedImage
from serving.tensors import Array, Datatype, TensorSpec

SERVER_NAME = "ride-server"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration")
PLATFORM = "ride_onnxruntime"
IMAGE_MODEL_NAME = "ride_image"

_OUTPUTS = ("probabilities", "experts_used", "router_scores")
_CLASSIFIED = "probabilities"
_RESERVED_PREFIX = "triton_"


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
    are wanted in place of the tensor, as texts (Triton's classification extension).
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """A request for one of the models: its input, parameters that cost or save compute, outputs."""

    data: Array
    parameters: Mapping[str, object]
    outputs: tuple[WantedOutput, ...]
    identity: str | None = None


@dataclass(frozen=True)
class OutputTensor:
    """An output of an answer; an array of objects holds BYTES."""

    wanted: WantedOutput
    datatype: Datatype
    array: Array


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
            InvalidRequest: for parameters out of range, an image that can't be read, too many rows.
            Overloaded: if too many images wait already.
        """
        service = self.service
        parameters = parse_cost_parameters(_without_reserved(request.parameters))
        rule = service.rule(parameters)
        if model.name == MODEL_NAME:
            routed = await service.infer(request.data, rule)
        else:
            images = [
                EncodedImage(data, f"row {row}") for row, data in enumerate(request.data.tolist())
            ]
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


def wanted_output(name: object, *, binary: bool = False, classes: object = 0) -> WantedOutput:
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
    return WantedOutput(name, binary, classes)


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
