"""What a client of a front is told when Triton fails."""

from __future__ import annotations

import re

import httpx


def assert_refused(response: httpx.Response, status: int, sentence: str) -> None:
    """The right status and a sentence that tells nothing of anybody's insides."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert re.search(sentence, error), error
    assert len(error) < 400
    for telltale in (
        "\n",
        "Traceback",
        "/models/",
        "model.py",
        "Error(",
        "StatusCode",
        "request id",
    ):
        assert telltale not in error
