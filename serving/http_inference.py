"""The two HTTP routes that carry images: `POST /v1/classify` and the protocol's `infer`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from serving import errors
from serving.classification import Classified, EncodedImage
from serving.compression import accepted_coding, compress, decompress
from serving.hang_up import cancelled_by_hang_up
from serving.inference import InferenceModels, InferRequest, ServedModel
from serving.inference_protocol import HEADER_LENGTH, InferBody, infer_body, parse_infer_request
from serving.manifest import MODEL_NAME
from serving.parameters import ClassifyParameters, parse_classify_parameters

CLASSIFY_PATH = "/v1/classify"
_INFER_PATHS = {
    "/v2/models/{model}/infer": ("model",),
    "/v2/models/{model}/versions/{version}/infer": ("model", "version"),
}

_LONGEST_NAME = 255
_QUICK_BODY_BYTES = 256 * 1024
"""Larger bodies are parsed off the event loop, so that nobody else waits for them."""


class LabelBody(BaseModel):
    """A class and its probability."""

    label: str
    index: int
    probability: float


class ResultBody(BaseModel):
    """The answer for one image."""

    name: str | None
    labels: list[LabelBody]
    experts_used: int
    router_scores: list[float]
    compute_share: float


class ClassifyBody(BaseModel):
    """The answer of `POST /v1/classify`, one result an image, in the order of the request.

    `degraded` tells that too much load made it cost less than the request asked for.
    """

    model: str
    version: str
    degraded: bool
    results: list[ResultBody]


class InferenceRoutes:
    """Both routes. They find their parameters in the request, for `FastLane` calls them too."""

    def __init__(self, models: InferenceModels) -> None:
        self._models = models
        self._service = models.service

    def router(self) -> APIRouter:
        """The routes for the framework, which documents them."""
        router = APIRouter()
        router.add_api_route(
            CLASSIFY_PATH,
            self.classify,
            methods=["POST"],
            tags=["images"],
            response_model=ClassifyBody,
            openapi_extra=_CLASSIFY_REQUEST,
        )
        for path, names in _INFER_PATHS.items():
            router.add_api_route(
                path,
                self.infer,
                methods=["POST"],
                tags=["Open Inference Protocol"],
                openapi_extra={"parameters": _in_path(*names), **_INFER_REQUEST},
            )
        return router

    async def classify(self, request: Request) -> Response:
        """Classify one image (the raw body) or several (multipart files).

        Answers, for each image, the most probable labels, how many experts it took, the routers'
        scores, and the share of the full ensemble's multiply-adds that was spent on it.
        """
        parameters = parse_classify_parameters(request.query_params)
        with self._models.live as live:
            rule = live.rule(parameters)
            self._service.require_time(live)
            most = self._service.settings.max_images_per_request
            images = await _encoded_images(request, most)
            async with cancelled_by_hang_up(request):
                classified = await self._service.classify(live, images, rule, parameters.top_k)
        return Response(_classify_body(classified), media_type="application/json")

    async def infer(self, request: Request) -> Response:
        """Classify prepared images (`ride`, UINT8 [N, H, W, 3]) or encoded ones (`ride_image`).

        Tensors come and go as JSON or as raw data behind it (binary tensor data extension), the
        body plain, with gzip or with deflate.
        """
        name, version = request.path_params["model"], request.path_params.get("version")
        with self._models.live as live:
            served = ServedModel.of(live, name, version)
            self._service.require_time(live)
            body = await request.body()
            coding = request.headers.get("content-encoding")

            def parse() -> InferRequest:
                plain = decompress(body, coding, self._service.settings.max_body_bytes)
                return parse_infer_request(
                    plain, served.description.input, request.headers.get(HEADER_LENGTH)
                )

            quick = coding is None and len(body) <= _QUICK_BODY_BYTES
            parsed = parse() if quick else await run_in_threadpool(parse)
            async with cancelled_by_hang_up(request):
                answer = infer_body(await self._models.infer(served, parsed))
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


async def _encoded_images(request: Request, max_images: int) -> list[EncodedImage]:
    body = await request.body()
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data":
        return [EncodedImage(body)]
    _check_parts(body, options.get(b"boundary", b""), max_images)
    try:
        async with request.form(max_files=max_images, max_fields=max_images) as form:
            return [await _uploaded_image(*item) for item in form.multi_items()]
    except MultiPartException as error:
        raise errors.InvalidRequest(f"the form can't be read: {error.message}") from None
    except UnicodeError:
        raise errors.InvalidRequest("the form's charset can't be read; leave it out") from None


def _check_parts(body: bytes, boundary: bytes, max_images: int) -> None:
    """Refuse what the parser would only drop in silence, or count too late."""
    if b"--%b--" % boundary not in body:
        raise errors.InvalidRequest("the form is cut short or damaged: no boundary ends it")
    parts = body.count(b"\r\n--" + boundary)
    if parts > max_images:
        raise errors.RequestTooLarge(f"a request may hold {max_images} images, not {parts}")


async def _uploaded_image(field: str, upload: UploadFile | str) -> EncodedImage:
    if not isinstance(upload, UploadFile):
        raise errors.InvalidRequest(
            f"the form's part {field[:_LONGEST_NAME]!r} is not a file; "
            "parameters belong in the URL, after a question mark"
        )
    name = (upload.filename or "")[:_LONGEST_NAME]
    # Some charsets make halves of characters, which JSON can't hold.
    return EncodedImage(await upload.read(), name.encode(errors="replace").decode() or None)


def _classify_body(classified: Classified) -> bytes:
    """`ClassifyBody` as JSON; orjson reads dataclasses by itself."""
    return orjson.dumps(
        {
            "model": MODEL_NAME,
            "version": classified.version,
            "degraded": classified.degraded,
            "results": classified.results,
        }
    )


def _documented(parameters: type[BaseModel]) -> list[dict[str, Any]]:
    """Query parameters as OpenAPI describes them."""
    properties = parameters.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in properties.items()
    ]


def _in_path(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


_CLASSIFY_REQUEST: dict[str, Any] = {
    "parameters": _documented(ClassifyParameters),
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
        },
    },
}

_INFER_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "items": {"type": "object"}},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}
