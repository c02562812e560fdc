"""The Open Inference Protocol's route that carries tensors: `infer`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from serving.dataplane.dataplane import DataPlane
from serving.dataplane.inference import OUTPUTS
from serving.http.compression import accepted_coding, compress
from serving.http.fast_lane import Endpoint
from serving.http.hang_up import cancelled_by_hang_up
from serving.http.protocol_bodies import CLIENT_MODELS, InferResponseBody
from serving.http.protocol_json import HEADER_LENGTH, InferBody, infer_body, parse_infer_request

_PATHS = {
    "/v2/models/{model}/infer": ("model",),
    "/v2/models/{model}/versions/{version}/infer": ("model", "version"),
}
_QUICK_BODY_BYTES = 256 * 1024
"""Larger bodies are parsed off the event loop, so that nobody else waits for them."""


class InferRoute:
    """The route, of whichever model; it finds the model's name in the request's path."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def router(self) -> APIRouter:
        """The route for the framework, which documents it."""
        router = APIRouter()
        for path, names in _PATHS.items():
            router.add_api_route(
                path,
                self.infer,
                methods=["POST"],
                tags=["Open Inference Protocol"],
                response_model=InferResponseBody,
                responses=_RESPONSES,
                openapi_extra={"parameters": [*_in_path(*names), _LENGTH], **_REQUEST},
            )
        return router

    def endpoint(self, scope: Scope) -> Endpoint | None:
        """What answers a POST request, if this route does; it gets the path's parameters."""
        match scope["path"].split("/"):
            case ["", "v2", "models", model, "infer"] if model:
                scope["path_params"] = {"model": model}
            case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
                scope["path_params"] = {"model": model, "version": version}
            case _:
                return None
        return self.infer

    async def infer(self, request: Request) -> Response:
        """Classify prepared images (`ride`, UINT8 [N, H, W, 3]) or encoded ones (`ride_image`).

        Tensors come and go as JSON or as raw data behind it (binary tensor data extension), the
        body plain, with gzip or with deflate.
        """
        name, version = request.path_params["model"], request.path_params.get("version")
        with self._plane.admit(name, version) as admitted:
            body = await request.body()
            given = body, admitted.model.input, request.headers.get(HEADER_LENGTH)
            if len(body) <= _QUICK_BODY_BYTES:
                parsed = parse_infer_request(*given)
            else:
                parsed = await run_in_threadpool(parse_infer_request, *given)
            async with cancelled_by_hang_up(request):
                answer = infer_body(await admitted.infer(parsed))
        return _infer_response(answer, request.headers.get("accept-encoding"))


def _infer_response(body: InferBody, accept_encoding: str | None) -> Response:
    # Nothing else is compressed: tritonclient's asyncio client reads other answers as they are.
    headers, content = {}, body.content
    if body.header_length is not None:
        headers[HEADER_LENGTH] = str(body.header_length)
    if coding := accepted_coding(accept_encoding):
        headers |= {"Content-Encoding": coding, "Vary": "Accept-Encoding"}
        content = compress(content, coding)
    binary = body.header_length is not None
    media_type = "application/octet-stream" if binary else "application/json"
    return Response(content, headers=headers, media_type=media_type)


def _in_path(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
        for name in names
    ]


_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "enum": list(CLIENT_MODELS)},
    "version": {"type": "string"},
}
_LENGTH: dict[str, Any] = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of JSON that raw data follow; 0 for raw data alone.",
    "schema": {"type": "integer", "minimum": 0},
}
_RAW = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": _RAW},
        "headers": {HEADER_LENGTH: {"schema": {"type": "string", "pattern": "^[0-9]+$"}}},
    }
}
_PARAMETERS = {"type": ["object", "null"]}
_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": ["string", "null"]},
                        "parameters": _PARAMETERS,
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["name", "datatype", "shape"],
                                "properties": {
                                    "name": {"enum": ["image", "image_bytes"]},
                                    "datatype": {"enum": ["UINT8", "BYTES"]},
                                    "shape": {
                                        "type": "array",
                                        "items": {"type": "integer", "minimum": 1},
                                    },
                                    "parameters": _PARAMETERS,
                                    "data": {"type": ["array", "null"]},
                                },
                            },
                        },
                        "outputs": {
                            "type": ["array", "null"],
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"enum": list(OUTPUTS)},
                                    "parameters": _PARAMETERS,
                                },
                            },
                        },
                    },
                }
            },
            "application/octet-stream": _RAW,
        },
    }
}
