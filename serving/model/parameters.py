"""Request parameters that trade cost for accuracy, the same in every dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import InvalidRequest
from serving.model.manifest import Manifest
from serving.model.routing import RoutingRule
from serving.model.rules import routing_rule

DEFAULT_TOP_K = 5
_RESERVED_PREFIX = "triton_"


class CostParameters(BaseModel):
    """How far an image may go. What is not given is the model's own choice."""

    model_config = ConfigDict(extra="forbid")

    max_experts: Annotated[
        int | None, Field(ge=1, description="Most experts that an image may take.")
    ] = None
    threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="An image goes on to a further expert where the router's score is above "
            "this. 1 stops every image after one expert; 0 sends on all with a score above 0. The "
            "default is the model's own threshold for each router.",
        ),
    ] = None
    quality: Annotated[
        Literal["fast", "balanced", "full"] | None,
        Field(
            description="The model's own setting for the least cost, for nearly full accuracy, or "
            "for all experts. Instead of a threshold; max_experts may be given as well.",
        ),
    ] = None

    def rule(self, manifest: Manifest) -> RoutingRule:
        """The routing rule that they ask of a model.

        Raises:
            InvalidRequest: if one is out of range or contradicts another.
        """
        return routing_rule(manifest, self.max_experts, self.threshold, self.quality)


NO_PARAMETERS = CostParameters()


class ClassifyParameters(CostParameters):
    """Parameters of image classification."""

    top_k: Annotated[int, Field(ge=1, description="How many labels to answer.")] = DEFAULT_TOP_K


def describe(problem: Mapping[str, Any]) -> str:
    """One of pydantic's error details in a sentence; the end of `loc` is the parameter's name."""
    name = str(problem["loc"][-1])[:100]
    if problem["type"] == "extra_forbidden":
        return f"there is no parameter {name!r}"
    return f"the parameter {name!r} is wrong: {problem['msg']}"


def parse_classify_parameters(query: Mapping[str, str]) -> ClassifyParameters:
    """Check parameters of a URL's query, where everything is a text.

    Raises:
        InvalidRequest: naming the parameter and what is wrong with it.
    """
    try:
        return ClassifyParameters.model_validate(dict(query))
    except ValidationError as error:
        raise InvalidRequest(describe(error.errors()[0])) from None


def parse_cost_parameters(data: Mapping[str, object]) -> CostParameters:
    """Check parameters that came as JSON.

    Raises:
        InvalidRequest: naming the parameter and what is wrong with it.
    """
    if not data:
        return NO_PARAMETERS
    try:
        return CostParameters.model_validate(data, strict=True)
    except ValidationError as error:
        raise InvalidRequest(describe(error.errors()[0])) from None


def without_reserved(parameters: Mapping[str, object]) -> dict[str, object]:
    """What a user asked for: perf_analyzer adds parameters that Triton reserves for itself."""
    return {
        name: value for name, value in parameters.items() if not name.startswith(_RESERVED_PREFIX)
    }
