"""What every error becomes over HTTP: a status and one sentence in JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serving import errors
from serving.http.compression import ACCEPTED
from serving.model.parameters import describe

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
    errors.NoBackend: 503,
    errors.BackendFault: 502,
    errors.ModelRepositoryError: 500,
    errors.AuditError: 500,
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


class ErrorBody(BaseModel):
    """The answer to a request that failed, one sentence."""

    error: str


def error_response(error: Exception) -> Response:
    """The answer for an error; one that is our fault is logged, and tells the client no more."""
    if isinstance(error, errors.RideError):
        status = STATUS[type(error)]
        if status == 500:
            logger.error("%s", error, exc_info=error)
        return _error(status, str(error), _RESPONSE_HEADERS.get(status))
    if isinstance(error, RequestValidationError):
        return _error(400, describe(error.errors()[0]))
    if isinstance(error, HTTPException):
        return _error(error.status_code, str(error.detail), _with_head(error.headers or {}))
    if isinstance(error, ClientDisconnect):
        # Hanging up is no fault of the server's: not for its log, nor for the count of 5xx.
        return Response(status_code=_CLIENT_GONE)
    logger.error("a request failed", exc_info=error)
    return _unknown_error()


def handle_errors(app: FastAPI) -> None:
    """Let an application answer every error as `error_response` says."""

    async def handle(_: Request, error: Exception) -> Response:
        return error_response(error)

    async def handle_unknown(_: Request, __: Exception) -> Response:
        return _unknown_error()  # Starlette raises it again, and the server logs it

    for kind in (errors.RideError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, handle_unknown)


def _unknown_error() -> Response:
    return _error(500, "the server failed on this request; its log says why")


def _with_head(headers: Mapping[str, str]) -> dict[str, str]:
    """HEAD is allowed where GET is (`serving.http.paths`), and no route knows."""
    return {name: "GET, HEAD" if value == "GET" else value for name, value in headers.items()}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)
