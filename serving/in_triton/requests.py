"""Triton's requests and errors as this package has them, and back."""

from __future__ import annotations

import json
import traceback
from typing import Any

import triton_python_backend_utils as pb_utils

from serving.errors import InvalidRequest, Overloaded, RideError
from serving.model.manifest import Manifest
from serving.model.parameters import parse_cost_parameters, without_reserved
from serving.model.routing import RoutingRule

_UNKNOWN_FAILURE = "the model failed on this request; Triton's log says why"


def rule_of(request: Any, manifest: Manifest) -> RoutingRule:
    """The routing rule that a request's parameters ask for.

    Raises:
        InvalidRequest: if one is unknown, out of range or contradicts another.
    """
    parameters = without_reserved(json.loads(request.parameters() or "{}"))
    return parse_cost_parameters(parameters).rule(manifest)


def error_response(error: Exception) -> Any:
    """The answer that tells a request's client what was wrong; of our own faults, only that."""
    if not isinstance(error, RideError):
        pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
        return _response(_UNKNOWN_FAILURE, pb_utils.TritonError.INTERNAL)
    code = pb_utils.TritonError.INTERNAL
    if isinstance(error, InvalidRequest):
        code = pb_utils.TritonError.INVALID_ARG
    elif isinstance(error, Overloaded):
        code = pb_utils.TritonError.UNAVAILABLE
    return _response(str(error), code)


def cancelled_response() -> Any:
    """The answer to a request whose client is gone."""
    return _response("the client cancelled the request", pb_utils.TritonError.CANCELLED)


def _response(sentence: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence, code))
