"""What is wrong with a request is said in one sentence, with the right status."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving import errors
from serving.http.errors import STATUS
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.serving.http.requests import (
    BOUNDARY,
    END,
    FORM,
    INFER,
    Pixels,
    as_files,
    assert_answers,
    assert_refused,
    infer_request,
    part,
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the image is empty"),
        (b"not an image", "the bytes are text, which is not accepted"),
        (b"<html></html>", "the bytes are an HTML page, which is not accepted"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
        (b"\x00" * 100_000, "not an image of an accepted format"),
        (b"GIF89a" + b"\x01" * 50, "the bytes are a GIF image, which is not accepted"),
    ],
)
def test_a_body_that_is_no_image_is_refused(
    server: RunningServer, pictures: tuple[bytes, ...], content: bytes, sentence: str
) -> None:
    assert_refused(server.post(CLASSIFY, content=content), 400, sentence)
    assert_answers(server, pictures[0])


def test_an_image_cut_short_anywhere_is_refused(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    whole = pictures[0]
    for size in (1, 30, 60, len(whole) // 2, len(whole) - 1):
        assert_refused(server.post(CLASSIFY, content=whole[:size]), 400)
    assert_answers(server, whole)


def test_an_image_of_too_many_pixels_is_refused(
    strict_server: RunningServer, png: Callable[[Pixels], bytes], pictures: tuple[bytes, ...]
) -> None:
    large = png(np.zeros((3_300, 3_300, 3), dtype=np.uint8))
    assert_refused(strict_server.post(CLASSIFY, content=large), 413, "3300 x 3300 pixels")
    assert_answers(strict_server, pictures[0])


def test_server_and_command_take_files_of_the_same_size(
    server: RunningServer,
    repository: Path,
    tmp_path: Path,
    call_ride: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(bytes(16 * 2**20 + 1))
    sentence = "the image has 16777217 bytes and at most 16777216 are accepted"
    assert_refused(server.post(CLASSIFY, content=file.read_bytes()), 413, sentence)
    done = call_ride("classify", file, "--repository", repository)
    assert (done.returncode, sentence in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("top_k=0", "'top_k' is wrong"),
        ("top_k=-1", "'top_k' is wrong"),
        ("top_k=101", "top_k must lie between 1 and 100, not 101"),
        ("top_k=" + "9" * 19, "top_k must lie between 1 and 100"),
        ("top_k=" + "9" * 10_000, "'top_k' is wrong"),
        ("top_k=five", "'top_k' is wrong"),
        ("top_k=1.5", "'top_k' is wrong"),
        ("max_experts=0", "'max_experts' is wrong"),
        ("max_experts=4", "max_experts must lie between 1 and 3, not 4"),
        ("max_experts=all", "'max_experts' is wrong"),
        ("threshold=-0.01", "'threshold' is wrong"),
        ("threshold=1.01", "'threshold' is wrong"),
        ("threshold=nan", "'threshold' is wrong"),
        ("threshold=inf", "'threshold' is wrong"),
        ("threshold=high", "'threshold' is wrong"),
        ("topk=3", "there is no parameter 'topk'"),
        ("query=3", "there is no parameter 'query'"),
        ("%00%ff=3", "there is no parameter"),
        ("x" * 10_000 + "=3", "there is no parameter 'x"),
    ],
)
def test_a_bad_parameter_is_named(
    server: RunningServer, pictures: tuple[bytes, ...], query: str, sentence: str
) -> None:
    assert_refused(server.post(f"{CLASSIFY}?{query}", content=pictures[0]), 400, sentence)


FORMS: dict[str, tuple[dict[str, str], bytes, str]] = {
    "garbage": (FORM, b"\x00garbage" * 100, "cut short or damaged"),
    "nothing": (FORM, b"", "cut short or damaged"),
    "no parts": (FORM, END, "no image"),
    "no end": (FORM, part(b"abc"), "cut short or damaged"),
    "second file cut short": (FORM, part(b"abc") + part(b"abc")[:-4], "cut short or damaged"),
    "no boundary": ({"Content-Type": "multipart/form-data"}, part(b"abc") + END, ""),
    "part without a head": (FORM, f"--{BOUNDARY}\r\n\r\nabc\r\n".encode() + END, ""),
    "head without end": (FORM, f"--{BOUNDARY}\r\nContent-Dispo".encode() + END, ""),
    "text after the boundary": (FORM, f"--{BOUNDARY}abc\r\n\r\n".encode() + END, ""),
    "no name": (FORM, part(b"abc", 'form-data; filename="a.png"') + END, "name"),
    "a text field": (
        FORM,
        part(b"3", 'form-data; name="top_k"') + END,
        "the form's part 'top_k' is not a file; parameters belong in the URL",
    ),
    "a large text field": (FORM, part(b"3" * 2_000_000, 'form-data; name="file"') + END, ""),
    "a bad image": (FORM, part(b"abc") + END, "^a.png: the bytes are text"),
    "an empty file": (FORM, part(b"") + END, "^a.png: the image is empty"),
    "a charset of half characters": (
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7"},
        part(b"abc", 'form-data; name="file"; filename="+2AA-"') + END,
        "the bytes are text",
    ),
    "a charset that is undefined": (
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}; charset=undefined"},
        part(b"abc") + END,
        "charset can't be read",
    ),
}


@pytest.mark.parametrize(("headers", "content", "sentence"), FORMS.values(), ids=FORMS)
def test_a_bad_form_is_refused(
    server: RunningServer,
    pictures: tuple[bytes, ...],
    headers: dict[str, str],
    content: bytes,
    sentence: str,
) -> None:
    assert_refused(server.post(CLASSIFY, content=content, headers=headers), 400, sentence)
    assert_answers(server, pictures[0])


def test_a_name_in_half_characters_does_not_spoil_the_answer(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7"}
    form = part(pictures[0], 'form-data; name="file"; filename="+2AA-.png"') + END
    response = server.post(CLASSIFY, content=form, headers=headers)
    assert response.json()["results"][0]["name"] == "?.png"


def test_a_very_long_name_is_shortened(server: RunningServer, pictures: tuple[bytes, ...]) -> None:
    form = part(pictures[0], f'form-data; name="file"; filename="{"x" * 2_000}"') + END
    response = server.post(CLASSIFY, content=form, headers=FORM)
    assert response.json()["results"][0]["name"] == "x" * 255


def test_too_many_files_are_refused(
    strict_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    response = strict_server.post(CLASSIFY, files=as_files(pictures[:4]))
    assert_refused(response, 413, "a request may hold 3 images, not 4")
    assert strict_server.post(CLASSIFY, files=as_files(pictures[:3])).status_code == 200


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"\x89PNG", "the body is not JSON"),
        (b"[" * 1_000_000, "the body is not JSON"),
        (b"{}", "inputs must be a list"),
        (json.dumps(infer_request(shape=[1024, 32, 32, 3])).encode(), "data holds 3072 numbers"),
        (json.dumps(infer_request(shape=[], data=[1])).encode(), "it has 0 dimensions"),
        (
            json.dumps(infer_request(shape=[1, 3, 32, 32])).encode(),
            r"the shape \[N, 32, 32, 3\], not \[1, 3, 32, 32\]",
        ),
        (json.dumps(infer_request(datatype="FP32")).encode(), "datatype UINT8"),
        (json.dumps(infer_request(data=[0.5] * 3_072)).encode(), "whole numbers between 0 and 255"),
        (json.dumps(infer_request(data=[256] * 3_072)).encode(), "whole numbers between 0 and 255"),
        (json.dumps(infer_request(data=[-1] * 3_072)).encode(), "whole numbers between 0 and 255"),
        (json.dumps(infer_request(data=[[1], [1, 2]])).encode(), "data must be a flat list"),
        (b'{"inputs": [{"data": [NaN]}]}', "the body is not JSON"),
        (
            json.dumps({**infer_request(), "outputs": [{"name": "logits"}]}).encode(),
            "there is no output 'logits'",
        ),
        (
            json.dumps({**infer_request(), "parameters": {"max_experts": 9}}).encode(),
            "max_experts must lie between 1 and 3, not 9",
        ),
        (
            json.dumps({**infer_request(), "parameters": {"threshold": -1}}).encode(),
            "'threshold' is wrong",
        ),
    ],
)
def test_a_bad_tensor_request_is_refused(
    server: RunningServer, content: bytes, sentence: str
) -> None:
    assert_refused(server.post(INFER, content=content), 400, sentence)
    assert server.post(INFER, json=infer_request()).status_code == 200


def test_too_many_rows_are_refused(strict_server: RunningServer) -> None:
    request = infer_request(shape=[4, 32, 32, 3], data=[7] * 4 * 3_072)
    assert_refused(strict_server.post(INFER, json=request), 413, "may hold 3 images, not 4")
    for shape in ([4, 32, 32, 3], [2**60, 32, 32, 3]):
        none_read = infer_request(shape=shape, data=[])
        assert_refused(strict_server.post(INFER, json=none_read), 413, f"images, not {shape[0]}")


def test_large_tensors_are_parsed_like_small_ones(server: RunningServer) -> None:
    """They are parsed on another thread."""
    rows = 100
    body = bytes(rows * 3_072)
    headers = {"Inference-Header-Content-Length": "0"}
    answer = server.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [rows, 100]
    refused = server.post(INFER, content=body[1:], headers=headers)
    assert_refused(refused, 400, "must hold whole images of 3072 bytes")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/static-offline-docs/..%2f..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v2/models/resnet", 404),
        ("GET", "/v2/models/resnet/ready", 404),
        ("GET", "/v2/models/ride/versions/2", 404),
        ("GET", "/v2/models/ride/versions/01/ready", 404),
        ("POST", "/v2/models/resnet/infer", 404),
        ("POST", "/v2/models/ride/versions/latest/infer", 404),
        ("GET", CLASSIFY, 405),
        ("DELETE", CLASSIFY, 405),
        ("PUT", INFER, 405),
        ("POST", "/metrics", 405),
    ],
)
def test_what_is_not_there_is_refused(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    assert_refused(server.client.request(method, path), status)


def test_a_refused_method_is_told_the_right_one(server: RunningServer) -> None:
    assert server.get(CLASSIFY).headers["allow"] == "POST"


def test_models_that_are_not_served_are_named(server: RunningServer) -> None:
    assert_refused(
        server.get("/v2/models/resnet"), 404, "no model 'resnet'; there are: 'ride', 'ride_image'"
    )
    response = server.get("/v2/models/ride/versions/2")
    assert_refused(response, 404, "version '2' of ride is not served; version 1 is")


def test_what_is_no_http_does_not_stop_the_server(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    for content in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\x00" * 1_000):
        with server.connect() as connection:
            connection.sendall(content)
            connection.recv(4_096)
    assert_answers(server, pictures[0])


def every_error(base: type[errors.RideError]) -> set[type[errors.RideError]]:
    return {base}.union(*(every_error(child) for child in base.__subclasses__()))


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == every_error(errors.RideError) - {errors.RideError}
    assert set(STATUS.values()) <= {400, 403, 404, 408, 409, 413, 415, 500, 501, 502, 503, 504}
