"""Reads what a server of the Open Inference Protocol answers. Nothing in it is taken on trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.dataplane.classification import Answer
from serving.dataplane.tensors import Array, TensorSpec, answer_tensors, decode_raw
from serving.errors import BackendFault, InvalidRequest
from serving.model.routing import Routed
from serving.model.versions import ModelVersion

_ROUNDING = 1e-3


def read_answer(message: Any, model: ModelVersion, rows: int) -> Answer:
    """The answer for `rows` images in a `ModelInferResponse`.

    Raises:
        BackendFault: if it does not fit the version of the model that was asked.
    """
    if message.model_version != str(model.number):
        raise BackendFault(
            f"Triton answered with version {message.model_version[:20]!r} of the model, "
            f"and was asked for version {model.number}"
        )
    routed = read_outputs(message, answer_tensors(model.manifest), rows)
    probabilities, experts_used = routed.probabilities, routed.experts_used
    if not ((probabilities >= 0) & (probabilities <= 1 + _ROUNDING)).all():
        raise BackendFault("Triton's answer has probabilities that don't lie between 0 and 1")
    if experts_used.min() < 1 or experts_used.max() > model.manifest.num_experts:
        raise BackendFault(
            f"Triton's answer has experts_used beyond 1 to {model.manifest.num_experts}"
        )
    degraded = message.parameters["degraded"].bool_param
    return Answer(routed, degraded)


def read_outputs(
    message: Any, outputs: Sequence[TensorSpec], rows: int, server: str = "Triton"
) -> Routed:
    """The outputs for `rows` images in a `ModelInferResponse`; their values are not looked at.

    Raises:
        BackendFault: if an output is missing, or of another type, shape or size; names `server`.
    """
    if len(message.raw_output_contents) != len(message.outputs):
        raise BackendFault(f"{server}'s answer has not one raw content for each output")
    contents = zip(message.outputs, message.raw_output_contents, strict=True)
    found = {tensor.name: (tensor, raw) for tensor, raw in contents}
    return Routed(**{spec.name: _array(found, spec, rows, server) for spec in outputs})


def _array(found: dict[str, tuple[Any, bytes]], spec: TensorSpec, rows: int, server: str) -> Array:
    if spec.name not in found:
        raise BackendFault(f"{server}'s answer has no output {spec.name!r}")
    tensor, raw = found[spec.name]
    wanted, shape = (rows, *spec.shape[1:]), tuple(tensor.shape)
    if wanted == (rows,) and shape == (rows, 1):  # Triton calls a number for each row that
        shape = wanted
    if tensor.datatype != spec.datatype or shape != wanted:
        raise BackendFault(
            f"{server}'s answer has {spec.name} of type {tensor.datatype[:20]} and shape "
            f"{list(tensor.shape)[:8]}, and the model's are {spec.datatype} and {list(wanted)}"
        )
    try:
        return decode_raw(raw, spec, wanted)
    except InvalidRequest:
        raise BackendFault(
            f"{server}'s answer has {len(raw)} bytes of {spec.name}, which its shape does not fill"
        ) from None
