"""Audited images as `GET /v1/audit?samples=true` gives them: from a server or a file, checked."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from serving.errors import AuditError
from serving.model.routing import Float
from serving.model.thresholds import Right

AUDIT_PATH = "/v1/audit"
_MOST_BYTES = 64 * 2**20
_TIMEOUT_S = 30.0

_Score = Annotated[FiniteFloat, Field(ge=0, le=1)]
_Class = Annotated[int, Field(ge=0, lt=2**31)]


class _Samples(BaseModel):
    router_scores: list[list[_Score]]
    predictions: list[list[_Class]]


class _Body(BaseModel):
    """What is needed of the answer; there may be more."""

    version: Annotated[str, Field(pattern=r"^\d{1,18}$")]
    thresholds: list[_Score]
    samples: _Samples | None = None


@dataclass(frozen=True)
class CalibrationSet:
    """N audited images of a model of K experts, as far as thresholds are chosen on them.

    Attributes:
        version: of the model.
        thresholds: K-1, those that were in force.
        scores: fp32 [K-1, N], of each router.
        agrees: bool [K, N], whether the first k experts answer what all of them do.
    """

    version: int
    thresholds: tuple[float, ...]
    scores: Float
    agrees: Right

    def part(self, rows: NDArray[np.int64]) -> CalibrationSet:
        """Some of the images."""
        return CalibrationSet(
            self.version, self.thresholds, self.scores[:, rows], self.agrees[:, rows]
        )


def read_samples(source: str) -> CalibrationSet:
    """From a server's address, the address of its audit, or a file of what that answered.

    Raises:
        AuditError: if it can't be read, or isn't what an audit says.
    """
    is_url = source.startswith(("http://", "https://"))
    content = _fetched(source) if is_url else _read(Path(source))
    if len(content) > _MOST_BYTES:
        raise AuditError(f"{source} holds more than an audit ever says")
    try:
        body = _Body.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))[:100] or "it"
        raise AuditError(f"{source} is no audit: {place}: {problem['msg']}") from None
    return _checked(body, source)


def _with_samples(url: str) -> str:
    parts = urlsplit(url)
    path = AUDIT_PATH if parts.path in {"", "/"} else parts.path
    query = dict(parse_qsl(parts.query)) | {"samples": "true"}
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), ""))


def _fetched(url: str) -> bytes:
    try:
        # Its scheme was looked at before.
        with urlopen(_with_samples(url), timeout=_TIMEOUT_S) as response:  # noqa: S310
            content: bytes = response.read(_MOST_BYTES + 1)
            return content
    except (HTTPException, URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise AuditError(f"{url} can't be read: {reason}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise AuditError(f"{path} can't be read: {error.strerror}") from None


def _checked(body: _Body, source: str) -> CalibrationSet:
    samples, routers = body.samples, len(body.thresholds)
    if samples is None:
        raise AuditError(f"{source} holds no images: ask for {AUDIT_PATH}?samples=true")
    rows = len(samples.predictions)
    same = len(samples.router_scores) == rows
    if not same or any(len(row) != routers for row in samples.router_scores):
        raise AuditError(f"{source} is no audit: every image needs {routers} router_scores")
    if any(len(row) != routers + 1 for row in samples.predictions):
        raise AuditError(f"{source} is no audit: every image needs {routers + 1} predictions")
    scores = np.array(samples.router_scores, dtype=np.float32).reshape(rows, routers)
    predictions = np.array(samples.predictions, dtype=np.int32).reshape(rows, routers + 1)
    agrees = predictions == predictions[:, -1:]
    return CalibrationSet(int(body.version), tuple(body.thresholds), scores.T, agrees.T)
