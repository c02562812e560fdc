"""HTTP: translates between requests and `serving.service`, and nothing else.

Two dialects: `POST /v1/classify` for images, and the Open Inference Protocol under `/v2` for
tensors.
"""

from __future__ import annotations

import logging
from importlib.metadata import version as distribution_version
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import errors
from serving.body_limit import BodyLimit
from serving.compression import ACCEPTED, accepted_coding, compress, decompress
from serving.hang_up import cancelled_by_hang_up
from serving.http_repository import repository_router, statistics_router
from serving.http_shared_memory import shared_memory_router
from serving.inference import InferenceModels, InferRequest
from serving.inference_protocol import (
    HEADER_LENGTH,
    InferBody,
    infer_body,
    model_config,
    model_metadata,
    parse_infer_request,
    server_metadata,
)
from serving.manifest import MODEL_NAME
from serving.parameters import ClassifyParameters, describe
from serving.request_metrics import RequestMetrics
from serving.service import ClassificationService, Classified, EncodedImage

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.RideError], int] = {
    errors.InvalidRequest: 400,
    errors.InvalidImage: 400,
    errors.RequestTimeout: 408,
    errors.UnsupportedEncoding: 415,
    errors.Unsupported: 501,
    errors.RequestTooLarge: 413,
    errors.ImageTooLarge: 413,
    errors.ModelNotFound: 404,
    errors.DeadlineExceeded: 504,
    errors.ModelControlRefused: 403,
    errors.RegionNotFound: 404,
    errors.RegionExists: 409,
    errors.Overloaded: 503,
    errors.ModelRepositoryError: 500,
    errors.SettingsError: 500,
    errors.InferenceError: 500,
}
"""The status of every error; a test shows that none is missing."""

_RESPONSE_HEADERS = {
    408: {"Connection": "close"},
    415: {"Accept-Encoding": ACCEPTED},
    503: {"Retry-After": "1"},
}
_CLIENT_GONE = 499  # nginx's; there is no official one, since nobody receives it
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


class ErrorBody(BaseModel):
    """The answer to a request that failed, one sentence."""

    error: str


def create_app(models: InferenceModels) -> FastAPI:
    """The HTTP application of models that are ready."""
    service = models.service
    app = FastAPIOffline(  # /docs takes its scripts from this server, not from elsewhere
        title="ride-server",
        version=distribution_version("ride-server"),
        description="Image classification with dynamic expert routing.",
        redoc_url=None,
        responses={
            "4XX": {"model": ErrorBody, "description": "What is wrong with the request."},
            "5XX": {"model": ErrorBody, "description": "Too busy, or a failure of the server."},
        },
    )
    settings = service.settings
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_total_body_bytes,
        timeout_s=settings.body_timeout_s,
    )
    app.add_middleware(RequestMetrics, metrics=service.metrics)
    app.add_exception_handler(errors.RideError, _ride_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _unknown_error)
    app.include_router(_classify_router(service))
    app.include_router(statistics_router(models))  # before the others: `stats` is no model
    app.include_router(_protocol_router(models, app.version))
    app.include_router(repository_router(models))
    app.include_router(shared_memory_router(models.shared_memory))
    app.include_router(_operator_router(service))
    return app


def _classify_router(service: ClassificationService) -> APIRouter:
    router = APIRouter(tags=["images"])

    @router.post("/v1/classify", response_model=ClassifyBody, openapi_extra=_CLASSIFY_REQUEST)
    async def classify(
        request: Request, parameters: Annotated[ClassifyParameters, Query()]
    ) -> Response:
        """Classify one image (the raw body) or several (multipart files).

        Answers, for each image, the most probable labels, how many experts it took, the routers'
        scores, and the share of the full ensemble's multiply-adds that was spent on it.
        """
        with service.host.using() as live:
            rule = live.rule(parameters)
            images = await _encoded_images(request, service.settings.max_images_per_request)
            async with cancelled_by_hang_up(request):
                classified = await service.classify(live, images, rule, parameters.top_k)
        return _json(_classify_body(classified))

    return router


def _protocol_router(models: InferenceModels, server_version: str) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server() -> dict[str, Any]:
        """The server's name, version and extensions."""
        return server_metadata(server_version, models.extensions)

    @router.get("/health/live")
    async def live() -> Response:
        """200 while the server runs."""
        return Response(status_code=200)

    @router.get("/health/ready")
    async def ready() -> Response:
        """200 while a model is served; the server listens only once it is loaded and warm."""
        return Response(status_code=200 if models.service.host.ready else 503)

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_description(model: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        return model_metadata(models.find(model, version))

    @router.get("/models/{model}/config")
    @router.get("/models/{model}/versions/{version}/config")
    async def model_configuration(model: str, version: str | None = None) -> dict[str, Any]:
        """A model's configuration, as Triton describes its models."""
        return model_config(models.find(model, version))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> Response:
        """200 if the model is served."""
        models.find(model, version)
        return Response(status_code=200)

    @router.post("/models/{model}/infer", openapi_extra=_INFER_REQUEST)
    @router.post("/models/{model}/versions/{version}/infer", openapi_extra=_INFER_REQUEST)
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        """Classify prepared images (`ride`, UINT8 [N, H, W, 3]) or encoded ones (`ride_image`).

        Tensors come and go as JSON or as raw data behind it (binary tensor data extension), the
        body plain, with gzip or with deflate.
        """
        with models.using(model, version) as served:
            body = await request.body()
            coding = request.headers.get("content-encoding")

            def parse() -> InferRequest:
                plain = decompress(body, coding, models.service.settings.max_body_bytes)
                return parse_infer_request(
                    plain, served.description.input, request.headers.get(HEADER_LENGTH)
                )

            quick = coding is None and len(body) <= _QUICK_BODY_BYTES
            parsed = parse() if quick else await run_in_threadpool(parse)
            async with cancelled_by_hang_up(request):
                answer = infer_body(await models.infer(served, parsed))
        return _infer_response(answer, request.headers.get("accept-encoding"))

    return router


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


def _operator_router(service: ClassificationService) -> APIRouter:
    router = APIRouter(tags=["operators"])

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.exposition(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router


async def _encoded_images(request: Request, max_images: int) -> list[EncodedImage]:
    body = await request.body()
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data":
        return [EncodedImage(body)]
    _check_parts(body, options.get(b"boundary", b""), max_images)
    try:
        async with request.form(max_files=max_images, max_fields=max_images) as form:
            return [await _uploaded_image(*item) for item in form.multi_items()]
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


def _classify_body(classified: Classified) -> dict[str, Any]:
    return {
        "model": MODEL_NAME,
        "version": classified.version,
        "degraded": classified.degraded,
        "results": classified.results,
    }


def _json(content: Any) -> Response:
    """An answer of plain values and dataclasses, which orjson reads by itself."""
    return Response(orjson.dumps(content), media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)


async def _ride_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.RideError)
    status = STATUS[type(error)]
    if status == 500:
        logger.error("%s", error, exc_info=error)
    return _error(status, str(error), _RESPONSE_HEADERS.get(status))


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _error(400, describe(error.errors()[0]))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return _error(error.status_code, str(error.detail), headers)


async def _client_gone(_: Request, __: Exception) -> Response:
    # Hanging up is no fault of the server's: not for its log, nor for the count of 5xx.
    return Response(status_code=_CLIENT_GONE)


async def _unknown_error(_: Request, __: Exception) -> Response:
    # Starlette logs the traceback; the client learns nothing about our insides.
    return _error(500, "the server failed on this request; its log says why")


_CLASSIFY_REQUEST: dict[str, Any] = {
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
    }
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
