"""Bodies of small requests: JSON, checked by a pydantic model."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from serving.errors import InvalidRequest
from serving.model.parameters import describe

Body = TypeVar("Body", bound=BaseModel)

_LARGEST_BYTES = 64 * 1024


def documented(kind: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The body as OpenAPI describes it, for a route's `openapi_extra`."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


async def json_body(request: Request, kind: type[Body]) -> Body:
    """The body; clients need not say that it is JSON.

    Raises:
        InvalidRequest: naming the field and what is wrong with it.
    """
    content = await request.body()
    if len(content) > _LARGEST_BYTES:
        raise InvalidRequest(f"the body must have at most {_LARGEST_BYTES} bytes")
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        if not problem["loc"]:
            raise InvalidRequest("the body must be a JSON object") from None
        raise InvalidRequest(describe(problem)) from None
