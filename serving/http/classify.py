"""`POST /v1/classify`: image files in, the most probable classes out."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from serving import errors
from serving.dataplane.classification import Classified, ImagePlane
from serving.http.fast_lane import Endpoint
from serving.http.hang_up import cancelled_by_hang_up
from serving.images.decoders import EncodedImage
from serving.images.formats import chosen
from serving.model.manifest import MODEL_NAME
from serving.model.parameters import ClassifyParameters, parse_classify_parameters

_PATH = "/v1/classify"
_LONGEST_NAME = 255


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


class ClassifyRoute:
    """The route, in front of whatever classifies encoded images."""

    def __init__(self, plane: ImagePlane) -> None:
        self._plane = plane
        self._max_images = plane.settings.max_images_per_request

    def router(self) -> APIRouter:
        """The route for the framework, which documents it."""
        router = APIRouter()
        router.add_api_route(
            _PATH,
            self.classify,
            methods=["POST"],
            tags=["images"],
            response_model=ClassifyBody,
            openapi_extra=_REQUEST,
        )
        return router

    def endpoint(self, scope: Scope) -> Endpoint | None:
        """What answers a POST request, if this route does."""
        return self.classify if scope["path"] == _PATH else None

    async def classify(self, request: Request) -> Response:
        """Classify one image (the raw body) or several (multipart files).

        The content type of a raw body does not matter: the file itself tells what it is.
        Answers, for each image, the most probable labels, how many experts it took, the routers'
        scores, and the share of the full ensemble's multiply-adds that was spent on it.
        """
        with self._plane.admit() as admitted:
            parameters = parse_classify_parameters(request.query_params)
            admitted.ask_for(parameters)
            images = await _encoded_images(request, self._max_images)
            async with cancelled_by_hang_up(request):
                classified = await admitted.classify(images, parameters.top_k)
        return Response(_classify_body(classified), media_type="application/json")


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


_FILE = {"type": "string", "format": "binary"}
_TYPES = [each.media_type for each in chosen()]
_REQUEST: dict[str, Any] = {
    "parameters": _documented(ClassifyParameters),
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _FILE} for media_type in _TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "minItems": 1, "items": _FILE}},
                },
                "encoding": {"file": {"contentType": ", ".join(_TYPES)}},
            },
        },
    },
}
