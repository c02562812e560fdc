"""The models by the names that clients know: what they take and give.

`ride` takes prepared images and `ride_image` encoded ones; both are the same model. The graphs
behind them (`stage_1`, `stage_2`, ..) are listed too, for their statistics, and take no requests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from serving.dataplane.tensors import Datatype, TensorSpec, answer_tensors, image_tensor
from serving.errors import InvalidRequest, ModelNotFound
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME

if TYPE_CHECKING:
    from serving.engine.graphs import Engine  # in front of Triton there is no runtime


@dataclass(frozen=True)
class ModelDescription:
    """A model as clients see it; -1 in a shape is any number of rows."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def input(self) -> TensorSpec:
        """The one input of a model that takes requests."""
        return self.inputs[0]


class Catalogue:
    """The models of one version; requests to them may hold `most_rows` images."""

    def __init__(self, engine: Engine, most_rows: int | None = None) -> None:
        manifest, version = engine.manifest, str(engine.version)
        answers = answer_tensors(manifest)
        self._version = version
        inputs = {MODEL_NAME: image_tensor(manifest), IMAGE_MODEL_NAME: _FILES}
        self._clients = {
            name: ModelDescription(name, version, (replace(its, most_rows=most_rows),), answers)
            for name, its in inputs.items()
        }
        self._graphs = {name: _graph_model(engine, name) for name in engine.sessions}

    def find(self, name: str, version: str | None) -> ModelDescription:
        """A model or a graph.

        Raises:
            ModelNotFound: if there is none of this name, or not in that version.
        """
        model = self._clients.get(name) or self._graphs.get(name)
        if model is None:
            raise _no_such_model(name)
        if version not in (None, "", self._version):
            raise ModelNotFound(
                f"version {version[:100]!r} of {name} is not served; version {self._version} is"
            )
        return model

    def find_for_requests(self, name: str, version: str | None) -> ModelDescription:
        """A model that takes requests.

        Raises:
            ModelNotFound: if there is none of this name, or not in that version.
            InvalidRequest: if this is the name of a graph.
        """
        model = self.find(name, version)
        if name not in self._clients:
            raise InvalidRequest(f"{name} is a part of {MODEL_NAME}: send requests there")
        return model


def require_client_model(name: str) -> None:
    """Raise ModelNotFound unless clients know a model of this name."""
    if name not in (MODEL_NAME, IMAGE_MODEL_NAME):
        raise _no_such_model(name)


def _no_such_model(name: str) -> ModelNotFound:
    known = f"{MODEL_NAME!r}, {IMAGE_MODEL_NAME!r}"
    return ModelNotFound(f"there is no model {name[:100]!r}; there are: {known}")


_FILES = TensorSpec("image_bytes", Datatype.BYTES, (-1,))


def _graph_model(engine: Engine, name: str) -> ModelDescription:
    session = engine.sessions[name]
    return ModelDescription(
        name,
        str(engine.version),
        tuple(_spec(tensor) for tensor in session.get_inputs()),
        tuple(_spec(tensor) for tensor in session.get_outputs()),
    )


def _spec(tensor: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return TensorSpec(tensor.name, _ONNX_TYPES[tensor.type], shape)


_ONNX_TYPES = {"tensor(float)": Datatype.FP32, "tensor(uint8)": Datatype.UINT8}
"""Of everything that a graph takes or gives; the engine's first run shows that it does."""
