"""Compressed bodies and headers that contradict each other, over real sockets."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import httpx
import pytest

from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.serving.http.requests import (
    BOUNDARY,
    END,
    FORM,
    INFER,
    assert_refused,
    infer_request,
    part,
)

PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
LENGTH = "Inference-Header-Content-Length"


@pytest.mark.parametrize("coding", PACKED)
def test_an_upload_may_be_compressed(
    either: RunningServer, pictures: tuple[bytes, ...], coding: str
) -> None:
    pack, said = PACKED[coding], {"Content-Encoding": coding}
    form = part(pictures[0]) + part(pictures[1]) + END
    for headers, content in (({}, pictures[0]), (FORM, form)):
        plain = either.post(CLASSIFY, content=content, headers=headers)
        packed = either.post(CLASSIFY, content=pack(content), headers={**headers, **said})
        assert (packed.status_code, packed.json()) == (200, plain.json())


def test_other_encodings_are_refused_and_told_those_that_are_not(
    either: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    for coding in ("br", "zstd", "gzip, deflate"):
        headers = {"Content-Encoding": coding}
        answer = either.post(CLASSIFY, content=pictures[0], headers=headers)
        assert_refused(answer, 415, f"encoding '{coding}' is not one of gzip, deflate")
        assert answer.headers["accept-encoding"] == "gzip, deflate"
    answer = either.post(CLASSIFY, content=pictures[0], headers={"Content-Encoding": "identity"})
    assert answer.status_code == 200


def test_damaged_compression_is_refused(either: RunningServer, pictures: tuple[bytes, ...]) -> None:
    for content in (pictures[0], gzip.compress(pictures[0])[:-5], b""):
        answer = either.post(CLASSIFY, content=content, headers={"Content-Encoding": "gzip"})
        assert_refused(answer, 400, "compressed|decompressed")


def test_an_upload_that_expands_beyond_the_limit_is_refused(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
    assert len(bomb) < 2**20
    for path in (CLASSIFY, INFER):
        answer = strict_server.post(path, content=bomb, headers={"Content-Encoding": "gzip"})
        assert_refused(answer, 413, "larger than 1048576 bytes")
    assert strict_server.post(CLASSIFY, content=pictures[0]).status_code == 200


def test_what_bodies_expand_to_counts_for_all_of_them_together(
    own_server: Callable[..., RunningServer], pictures: tuple[bytes, ...]
) -> None:
    """One body may become 8 MiB, and all together hold 4."""
    server = own_server("--max-body-mib=8", "--max-total-body-mib=4")
    packed = gzip.compress(pictures[0] + bytes(6 * 2**20))
    answer = server.post(CLASSIFY, content=packed, headers={"Content-Encoding": "gzip"})
    assert_refused(answer, 503, "busy with large requests")
    assert server.post(CLASSIFY, content=pictures[0]).status_code == 200


def test_requests_to_the_protocols_other_routes_may_be_compressed(server: RunningServer) -> None:
    headers = {"Content-Encoding": "gzip"}
    index = server.post(
        "/v2/repository/index", content=gzip.compress(b'{"ready": true}'), headers=headers
    )
    assert index.status_code == 200, index.text
    body = json.dumps(infer_request()).encode()
    packed = server.post(INFER, content=gzip.compress(body), headers=headers).json()
    assert packed == server.post(INFER, content=body).json()


def raw(server: RunningServer, path: str, *headers: str, content: bytes) -> httpx.Response:
    """What is answered to a request whose head is written by hand."""
    head = "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *headers))
    if "Content-Length" not in head.replace(LENGTH, ""):
        head += f"\r\nContent-Length: {len(content)}"
    with server.connect() as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + content)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    top, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    pairs = [tuple(line.split(": ", 1)) for line in lines]
    return httpx.Response(int(status.split()[1]), headers=pairs, content=body)  # type: ignore[arg-type]


def test_a_header_that_is_there_twice_must_say_the_same(
    server: RunningServer, front: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    body = json.dumps(infer_request()).encode()
    same = [f"{LENGTH}: {len(body)}"] * 2
    assert raw(server, INFER, *same, content=body).status_code == 200
    differ = raw(server, INFER, same[0], f"{LENGTH}: 0", content=body)
    assert_refused(differ, 400, "inference-header-content-length is there twice, with two values")
    form = part(pictures[0]) + END
    types = [f"Content-Type: multipart/form-data; boundary={each}" for each in (BOUNDARY, "other")]
    for each in (server, front):
        assert raw(each, CLASSIFY, types[0], content=form).status_code == 200
        assert_refused(
            raw(each, CLASSIFY, *types, content=form), 400, "content-type is there twice"
        )
        codings = ("Content-Encoding: gzip", "Content-Encoding: identity")
        assert_refused(
            raw(each, CLASSIFY, *codings, content=form), 400, "content-encoding is there"
        )


def test_two_lengths_of_a_body_are_refused(
    either: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    """The smuggler's requests: the body's end must not depend on who reads it."""
    lengths = (f"Content-Length: {len(pictures[0])}", "Content-Length: 5")
    assert raw(either, CLASSIFY, *lengths, content=pictures[0]).status_code == 400
    chunked = (f"Content-Length: {len(pictures[0])}", "Transfer-Encoding: chunked")
    assert raw(either, CLASSIFY, *chunked, content=b"0\r\n\r\n").status_code == 400
