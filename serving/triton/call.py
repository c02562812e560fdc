"""What each of Triton's models that answers images is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput

from serving.errors import InvalidRequest
from serving.model.manifest import (
    MODEL_NAME,
    RULES_MODEL_NAME,
    SELF_ROUTING_MODEL_NAME,
    Manifest,
)
from serving.model.parameters import NO_PARAMETERS, CostParameters
from serving.model.routing import RoutingRule


@dataclass(frozen=True)
class TritonCall:
    """Inputs and request parameters."""

    inputs: list[InferInput]
    parameters: dict[str, object] = field(default_factory=dict)


def call_of(
    model: str, images: NDArray[np.uint8], asked: CostParameters, manifest: Manifest
) -> TritonCall:
    """What `ride`, `ride_graph` or `ride_graph_rules` takes, for images uint8 [N, H, W, 3].

    Raises:
        InvalidRequest: for parameters that a graph can't heed, or that are out of range for one
            with rules; those of `ride` are for it to check.
    """
    pixels = image_input(images)
    if model == MODEL_NAME:
        fields = set(CostParameters.model_fields)
        return TritonCall([pixels], asked.model_dump(include=fields, exclude_none=True))
    rule = asked.rule(manifest)
    if model == RULES_MODEL_NAME:
        return TritonCall([pixels, *rule_inputs(rule, len(images))])
    if rule != NO_PARAMETERS.rule(manifest):
        raise InvalidRequest(
            f"here {SELF_ROUTING_MODEL_NAME} answers, which has the model's own rule only: "
            "max_experts, threshold and quality can't be heeded"
        )
    return TritonCall([pixels])


def image_input(images: NDArray[np.uint8]) -> InferInput:
    """The input `image` of every model."""
    return _tensor("image", images, "UINT8")


def rule_inputs(rule: RoutingRule, rows: int) -> list[InferInput]:
    """The inputs of `ride_graph_rules` besides, the same for so many rows."""
    thresholds = np.tile(np.array(rule.thresholds, dtype=np.float32), (rows, 1))
    max_experts = np.full((rows, 1), rule.max_experts, dtype=np.int32)
    return [
        _tensor("thresholds", thresholds, "FP32"),
        _tensor("max_experts", max_experts, "INT32"),
    ]


def _tensor(name: str, values: NDArray[np.generic], datatype: str) -> InferInput:
    return InferInput(name, list(values.shape), datatype).set_data_from_numpy(values)
