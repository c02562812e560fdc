"""What the Open Inference Protocol tells in JSON, tensors aside: health, metadata, configuration.

Configuration, statistics and the model repository are Triton's extensions of these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import BaseModel

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.inference import PLATFORM
from serving.dataplane.tensors import TensorSpec
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME

CLIENT_MODELS = (MODEL_NAME, IMAGE_MODEL_NAME)

# Other names are refused by whoever looks for the model, in a sentence that tells which there are.
ClientModel = Annotated[str, Path(json_schema_extra={"enum": list(CLIENT_MODELS)})]
"""A model that takes requests."""

AnyModel = Annotated[
    str, Path(description="A model, or a graph behind both: stage_1, ..", examples=[*CLIENT_MODELS])
]


@dataclass(frozen=True)
class LiveBody:
    """Whether the server runs."""

    live: bool


@dataclass(frozen=True)
class ReadyBody:
    """Whether requests can be answered."""

    ready: bool


@dataclass(frozen=True)
class ModelReadyBody:
    """Whether a model's requests can be answered."""

    name: str
    ready: bool


@dataclass(frozen=True)
class ServerMetadataBody:
    """The server and what it implements of Triton's extensions."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class TensorBody:
    """A tensor of a model; -1 in its shape is any number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> Self:
        """As the model declares it."""
        return cls(spec.name, spec.datatype, spec.shape)


@dataclass(frozen=True)
class ModelMetadataBody:
    """A model, or a graph behind one."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorBody, ...]
    outputs: tuple[TensorBody, ...]

    @classmethod
    def of(cls, model: ModelDescription) -> Self:
        """As it is served."""
        inputs, outputs = map(TensorBody.of, model.inputs), map(TensorBody.of, model.outputs)
        return cls(model.name, (model.version,), PLATFORM, tuple(inputs), tuple(outputs))


@dataclass(frozen=True)
class ConfiguredTensor:
    """A tensor of a model, in the words of Triton's configuration."""

    name: str
    data_type: str
    dims: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> Self:
        """As the model declares it."""
        return cls(spec.name, spec.datatype.config_name, spec.shape)


@dataclass(frozen=True)
class ModelConfigBody:
    """A model's configuration; `max_batch_size` is 0, as rows are a dimension like any other."""

    name: str
    platform: str
    max_batch_size: int
    input: tuple[ConfiguredTensor, ...]
    output: tuple[ConfiguredTensor, ...]

    @classmethod
    def of(cls, model: ModelDescription) -> Self:
        """As it is served."""
        inputs = map(ConfiguredTensor.of, model.inputs)
        outputs = map(ConfiguredTensor.of, model.outputs)
        return cls(model.name, PLATFORM, 0, tuple(inputs), tuple(outputs))


class OutputBody(BaseModel):
    """A tensor of an answer: in JSON, as raw data behind it, or stored in shared memory.

    A router that was not asked has the score null.
    """

    name: Literal["probabilities", "experts_used", "router_scores"]
    datatype: Literal["FP32", "INT32", "BYTES"]
    shape: list[int]
    parameters: dict[str, int] = {}
    data: list[float | str | None] = []


class InferResponseBody(BaseModel):
    """The answer of `infer`, whose bytes `infer_body` writes; what has a default may be missing."""

    model_name: str
    model_version: str
    id: str = ""
    parameters: dict[str, bool] = {}
    outputs: list[OutputBody]
