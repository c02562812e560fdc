"""The HTTP dialects over real sockets: good answers, and a clear refusal of all that is bad."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serving import errors
from serving.engine.graphs import Engine
from serving.http.errors import STATUS
from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
CLASSIFY = "/v1/classify"
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


# Good requests


def test_a_raw_body_is_one_image_whatever_its_content_type(
    server: RunningServer, engine: Engine, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    expected = engine.classify(pixels[:1], engine.rule())
    for content_type in (None, "image/png", "application/x-www-form-urlencoded", "nonsense"):
        headers = {"Content-Type": content_type} if content_type else {}
        response = server.post(CLASSIFY, content=pictures[0], headers=headers)
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["model"] == "ride"
        assert body["version"] == str(engine.version)
        (result,) = body["results"]
        assert result["name"] is None
        assert result["experts_used"] == expected.experts_used[0]
        assert len(result["labels"]) == 5
        best = result["labels"][0]
        assert best["index"] == expected.probabilities[0].argmax()
        assert best["label"] == engine.manifest.class_names[best["index"]]
        assert best["probability"] == pytest.approx(expected.probabilities[0].max(), abs=1e-5)


def test_a_form_of_several_files_keeps_order_and_names(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    names = ["z.png", "a.png", "../ünïcode \U0001f600.png", "a.png", "[b].png"]
    files = [
        (f"field {i % 2}", (name, data, "image/png"))
        for i, (name, data) in enumerate(zip(names, pictures, strict=False))
    ]
    results = server.post(CLASSIFY, files=files).json()["results"]
    assert [result["name"] for result in results] == names
    for result, data in zip(results, pictures, strict=False):
        assert_result(result, server.post(CLASSIFY, content=data).json()["results"][0])


def test_a_form_of_large_files_is_read(
    server: RunningServer, png: Callable[[Pixels], bytes]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    large = png(noise)
    assert len(large) > 2**20
    response = server.post(CLASSIFY, files=as_files([large, large]))
    first, second = response.json()["results"]
    assert_result(first, second)


def test_top_k_sets_the_number_of_labels(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    for top_k in (1, 3, 100):
        response = server.post(CLASSIFY, content=pictures[0], params={"top_k": top_k})
        assert len(response.json()["results"][0]["labels"]) == top_k


def test_max_experts_and_threshold_bound_the_cost(
    server: RunningServer, engine: Engine, pictures: tuple[bytes, ...]
) -> None:
    def experts(**parameters: float) -> set[int]:
        response = server.post(CLASSIFY, files=as_files(pictures), params=parameters)
        return {result["experts_used"] for result in response.json()["results"]}

    assert experts(max_experts=1) == {1}
    assert experts(threshold=1) == {1}
    assert experts(threshold=0) == {engine.manifest.num_experts}
    assert experts(threshold=0, max_experts=2) == {2}


def test_only_the_routers_that_were_asked_have_scores(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    def scores(**parameters: float) -> set[int]:
        response = server.post(CLASSIFY, files=as_files(pictures), params=parameters)
        return {len(result["router_scores"]) for result in response.json()["results"]}

    assert scores(max_experts=1) == {0}
    assert scores(threshold=1) == {1}
    assert scores(threshold=0) == {2}


def test_images_and_their_pixels_get_the_same_answer(
    server: RunningServer, pictures: tuple[bytes, ...], pixels: Pixels, middle_threshold: float
) -> None:
    query: dict[str, float] = {"threshold": middle_threshold, "top_k": 100}
    results = server.post(CLASSIFY, files=as_files(pictures), params=query).json()["results"]
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    request = {
        "parameters": {"threshold": middle_threshold},
        "inputs": [{**tensor, "data": pixels.tolist()}],
    }
    outputs = server.post(INFER, json=request).json()["outputs"]
    probabilities, experts_used, scores = (np.array(output["data"]) for output in outputs)
    assert [result["experts_used"] for result in results] == experts_used.tolist()
    assert len(set(experts_used.tolist())) > 1
    for row, result in enumerate(results):
        inferred = probabilities.reshape(len(pixels), -1)[row]
        for label in result["labels"]:
            assert label["probability"] == pytest.approx(inferred[label["index"]], abs=1e-5)
        asked = [score for score in scores.reshape(len(pixels), -1)[row] if score is not None]
        assert result["router_scores"] == pytest.approx(asked, abs=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/health/live", "/v2/health/ready", "/v2/models/ride/ready"),
        *("/v2", "/v2/models/ride", "/v2/models/ride/versions/1", "/metrics", "/openapi.json"),
    ],
)
def test_what_operators_ask_for_is_there(server: RunningServer, path: str) -> None:
    assert server.get(path).status_code == 200


# Bad requests


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the image is empty"),
        (b"not an image", "not an image of an accepted format"),
        (b"<html></html>", "not an image of an accepted format"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
        (b"\x00" * 100_000, "not an image of an accepted format"),
        (b"GIF89a" + b"\x01" * 50, "not an image of an accepted format"),
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
    "a bad image": (FORM, part(b"abc") + END, "^a.png: .* not an image"),
    "an empty file": (FORM, part(b"") + END, "^a.png: the image is empty"),
    "a charset of half characters": (
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7"},
        part(b"abc", 'form-data; name="file"; filename="+2AA-"') + END,
        "not an image",
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


def infer_request(**tensor: Any) -> dict[str, Any]:
    data = [7] * 3_072
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": data}
    return {"inputs": [image | tensor]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"\x89PNG", "the body is not JSON"),
        (b"[" * 1_000_000, "the body is not JSON"),
        (b"{}", "inputs must be a list"),
        (json.dumps(infer_request(shape=[2**60, 32, 32, 3])).encode(), "data holds 3072 numbers"),
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


# Many clients


def test_a_busy_server_asks_to_come_back(
    strict_server: RunningServer, png: Callable[[Pixels], bytes], pictures: tuple[bytes, ...]
) -> None:
    slow = as_files([png(np.zeros((3_000, 3_000, 3), dtype=np.uint8))] * 3)
    start = threading.Barrier(6)

    def post() -> httpx.Response:
        start.wait()
        return strict_server.post(CLASSIFY, files=slow)

    with ThreadPoolExecutor(6) as clients:
        responses = [future.result() for future in [clients.submit(post) for _ in range(6)]]
    assert {response.status_code for response in responses} == {200, 503}
    for response in responses:
        if response.status_code == 503:
            assert_refused(response, 503, "the server is busy; try again")
            assert int(response.headers["retry-after"]) > 0
    assert_answers(strict_server, pictures[0])


def test_good_clients_are_answered_among_bad_ones(
    server: RunningServer, engine: Engine, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    count = 50
    expected = engine.classify(pixels, engine.rule()).probabilities.argmax(axis=1)
    start = threading.Barrier(count)

    def upload(i: int) -> None:
        three = [i % 48, (i + 1) % 48, (i + 2) % 48]
        response = server.post(CLASSIFY, files=as_files([pictures[row] for row in three]))
        best = [result["labels"][0]["index"] for result in response.json()["results"]]
        assert best == expected[three].tolist()

    def send_tensor(i: int) -> None:
        row = i % 48
        response = server.post(INFER, json=infer_request(data=pixels[row].ravel().tolist()))
        assert np.argmax(response.json()["outputs"][0]["data"]) == expected[row]

    def send_garbage(i: int) -> None:
        assert_refused(server.post(CLASSIFY, content=bytes([i]) * 1_000), 400)

    def hang_up(i: int) -> None:
        with server.connect() as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n")
            connection.sendall(b"Content-Length: 1000\r\n\r\n" + pictures[0][:100])

    def hang_up_before_the_answer(i: int) -> None:
        with server.connect() as connection:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(pictures[0])}"
            connection.sendall(head.encode() + b"\r\n\r\n" + pictures[0])

    kinds = (upload, send_tensor, send_garbage, hang_up, hang_up_before_the_answer)

    def act(i: int) -> None:
        start.wait()
        kinds[i % len(kinds)](i)

    with ThreadPoolExecutor(count) as clients:
        for future in [clients.submit(act, i) for i in range(count)]:
            future.result()
    assert_answers(server, pictures[0])


# Documentation


def test_the_documentation_takes_nothing_from_elsewhere(server: RunningServer) -> None:
    page = server.get("/docs")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(source.endswith(".js") for source in sources)
    assert any(source.endswith(".css") for source in sources)
    for source in sources:
        address = urljoin(f"{server.url}/docs", source)
        assert address.startswith(f"{server.url}/")
        asset = server.get(address)
        assert asset.status_code == 200
        assert len(asset.content) > 100


def test_the_api_is_described(server: RunningServer) -> None:
    description = server.get("/openapi.json").json()
    classify = description["paths"][CLASSIFY]["post"]
    assert {parameter["name"] for parameter in classify["parameters"]} == {
        *("top_k", "max_experts", "threshold", "quality")
    }
    assert set(classify["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert "/v2/models/{model}/infer" in description["paths"]
    assert "/metrics" in description["paths"]


def test_answers_equal_those_of_the_command_line(
    server: RunningServer,
    call_ride: Callable[..., Any],
    repository: Path,
    tmp_path: Path,
    pictures: tuple[bytes, ...],
) -> None:
    files = []
    for i, data in enumerate(pictures[:8]):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(data)
    done = call_ride("classify", "--json", "--repository", repository, *files)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["name"] for answer in printed] == [str(file) for file in files]
    results = server.post(CLASSIFY, files=as_files(pictures[:8])).json()["results"]
    for result, answer in zip(results, printed, strict=True):
        assert list(result) == list(answer)
        assert_result(result, answer)
