"""Ids of requests: the client's own where they are harmless, in every answer."""

from __future__ import annotations

import pytest

from tests.running.server import RunningServer

VALID = "A-z.0_9:/+=@~"


def test_a_clients_id_comes_back(server: RunningServer, pictures: tuple[bytes, ...]) -> None:
    for given in (VALID, "x" * 128):
        headers = {"X-Request-ID": given}
        answers = (
            server.post("/v1/classify", content=pictures[0], headers=headers),
            server.post("/v1/classify", content=b"no image", headers=headers),
            server.post("/v2/models/ride/infer", content=b"{}", headers=headers),
            server.get("/metrics", headers=headers),
            server.get("/nowhere", headers=headers),
        )
        assert [answer.headers.get_list("x-request-id") for answer in answers] == [[given]] * 5


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", 'a"b', "a\tb", "ü", "{}"])
def test_others_are_replaced(server: RunningServer, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given.encode()}
    first, second = (
        server.get("/v2/health/live", headers=headers).headers["x-request-id"] for _ in range(2)
    )
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")
    assert first != second
