"""The models by the names that clients know: what they take and give.

`ride` takes prepared images and `ride_image` encoded ones; both are the same model. The graphs
behind them (`backbone`, `expert_1`, ..) are listed too, for their statistics, and take no requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.engine import Engine
from serving.errors import ModelNotFound
from serving.live_model import LiveModel
from serving.manifest import IMAGE_MODEL_NAME, MODEL_NAME, Manifest
from serving.tensors import Datatype, TensorSpec


@dataclass(frozen=True)
class ModelDescription:
    """A model as clients see it; -1 in a shape is any number of rows."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ServedModel(ModelDescription):
    """A model that takes requests, all of one input, and what answers them."""

    live: LiveModel

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        return self.inputs[0]


def find_model(live: LiveModel, name: str, version: str | None) -> ModelDescription:
    """A model of the live version.

    Raises:
        ModelNotFound: if there is none of this name, or not in that version.
    """
    if name in (MODEL_NAME, IMAGE_MODEL_NAME):
        model = _served_model(live, name)
    elif name in live.engine.sessions:
        model = _graph_model(live.engine, name)
    else:
        raise no_such_model(name)
    if version not in (None, "", model.version):
        raise ModelNotFound(
            f"version {version[:100]!r} of {name} is not served; version {model.version} is"
        )
    return model


def no_such_model(name: str) -> ModelNotFound:
    """The error for an unknown name."""
    known = f"{MODEL_NAME!r}, {IMAGE_MODEL_NAME!r}"
    return ModelNotFound(f"there is no model {name[:100]!r}; there are: {known}")


def _served_model(live: LiveModel, name: str) -> ModelDescription:
    manifest = live.engine.manifest
    takes = _pixels(manifest) if name == MODEL_NAME else _FILES
    return ServedModel(name, live.version, (takes,), _answers(manifest), live)


def _pixels(manifest: Manifest) -> TensorSpec:
    image = manifest.image
    return TensorSpec("image", Datatype.UINT8, (-1, image.height, image.width, 3))


_FILES = TensorSpec("image_bytes", Datatype.BYTES, (-1,))


def _answers(manifest: Manifest) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("probabilities", Datatype.FP32, (-1, manifest.num_classes)),
        TensorSpec("experts_used", Datatype.INT32, (-1,)),
        TensorSpec("router_scores", Datatype.FP32, (-1, manifest.num_experts - 1)),
    )


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
