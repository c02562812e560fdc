"""Requests that tests of the HTTP server send, and what they look for in its answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.running.load import CLASSIFY
from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
INFER = "/v2/models/ride/infer"
BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def assert_refused(response: httpx.Response, status: int, sentence: str = "") -> None:
    """The right status, and one sentence that tells nothing of our insides."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert re.search(sentence, body["error"]), body["error"]
    assert 0 < len(body["error"]) < 400
    for telltale in ("\n", "Traceback", "object at 0x", "Error(", "<class", "serving.", "{'", ". "):
        assert telltale not in body["error"]


def assert_answers(server: RunningServer, picture: bytes) -> None:
    response = server.post(CLASSIFY, content=picture)
    assert response.status_code == 200
    assert len(response.json()["results"]) == 1


def assert_result(result: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same answer, up to rounding and the image's name."""
    assert result["experts_used"] == expected["experts_used"]
    assert result["router_scores"] == pytest.approx(expected["router_scores"], abs=1e-5)
    assert result["compute_share"] == pytest.approx(expected["compute_share"])
    labels, others = result["labels"], expected["labels"]
    assert [label["index"] for label in labels] == [label["index"] for label in others]
    assert [label["label"] for label in labels] == [label["label"] for label in others]
    for label, other in zip(labels, others, strict=True):
        assert label["probability"] == pytest.approx(other["probability"], abs=1e-5)


def as_files(pictures: Sequence[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(pictures)]


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="a.png"') -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def infer_request(**tensor: Any) -> dict[str, Any]:
    data = [7] * 3_072
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": data}
    return {"inputs": [image | tensor]}
