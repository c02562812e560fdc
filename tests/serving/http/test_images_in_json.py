"""Image files as text: in JSON, over gRPC, and as a whole body."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.serving.http.requests import assert_refused

IMAGES = "/v2/models/ride_image/infer"
OUTPUTS = {"outputs": [{"name": "probabilities"}, {"name": "experts_used"}]}


def text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def request(data: Any, **tensor: Any) -> dict[str, Any]:
    files = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}
    return {"inputs": [files | tensor], **OUTPUTS}


@pytest.fixture(scope="module")
def expected(server: RunningServer, pictures: tuple[bytes, ...]) -> Any:
    """The answer to the first two pictures, sent as binary data."""
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in pictures[:2])
    head = request([], shape=[2], parameters={"binary_data_size": len(raw)})
    del head["inputs"][0]["data"]
    body = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))}
    answer = server.post(IMAGES, content=body + raw, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"]


def test_texts_objects_and_mlservers_parameter_are_the_same_files(
    server: RunningServer, pictures: tuple[bytes, ...], expected: Any
) -> None:
    texts = [text(picture) for picture in pictures[:2]]
    mlserver = {"parameters": {"content_type": "base64"}}
    for sent in (
        request(texts),
        request([{"b64": each} for each in texts]),
        request([texts[0], {"b64": texts[1]}]),
        request(texts, **mlserver),
        request(texts, shape=[2, 1], **mlserver),
        request([[each] for each in texts], shape=[2, 1]),
        request([base64.encodebytes(picture).decode() for picture in pictures[:2]]),
        request([base64.urlsafe_b64encode(picture).decode() for picture in pictures[:2]]),
    ):
        answer = server.post(IMAGES, json=sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"] == expected


def test_text_means_the_same_wherever_it_arrives(
    server: RunningServer, front: RunningServer, pictures: tuple[bytes, ...], expected: Any
) -> None:
    files = np.array([text(picture).encode() for picture in pictures[:2]], dtype=object)
    tensor = tritonclient.grpc.InferInput("image_bytes", [2], "BYTES").set_data_from_numpy(files)
    with closing(tritonclient.grpc.InferenceServerClient(server.grpc_address)) as client:
        result = client.infer("ride_image", [tensor])
    np.testing.assert_allclose(result.as_numpy("probabilities").ravel(), expected[0]["data"])
    for each in (server, front):
        plain, packed = (
            each.post(CLASSIFY, content=content) for content in (pictures[0], text(pictures[0]))
        )
        assert plain.status_code == 200
        assert packed.json() == plain.json()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (["not an image"], "row 0: .*not an image"),
        (["aGVsbG8="], "row 0: .*not an image"),
        (["aGVsbG8"], "row 0: .*not an image"),
        (["é"], "row 0: .*not an image"),
        ([""], "row 0: the image is empty"),
        ([7], "must hold texts of base64"),
        ([None], "must hold texts of base64"),
        ([{"b64": 7}], "must hold texts of base64"),
        ([{"b64": "", "more": 1}], "must hold texts of base64"),
        ([["a"], ["b"]], "data holds 2 elements, and shape"),
        (["a", ["b"]], "data holds 2 elements, and shape"),
        ("text", "data must be a list"),
        ({"b64": "aGVsbG8="}, "data must be a list"),
    ],
)
def test_what_is_no_image_is_refused(server: RunningServer, data: Any, sentence: str) -> None:
    assert_refused(server.post(IMAGES, json=request(data, shape=[1])), 400, sentence)


def test_an_image_in_base64_has_the_limits_of_its_file(server: RunningServer) -> None:
    large = base64.b64encode(b"\x89PNG" + bytes(16 * 2**20 - 3))
    body = (
        b'{"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["%b"]}]}'
    )
    refused = server.post(IMAGES, content=body % large)
    assert_refused(refused, 413, "row 0: the image has 16777217 bytes and at most 16777216")


def test_deep_lists_are_refused(server: RunningServer) -> None:
    for depth in (10, 100, 1_000):
        body = (
            '{"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": %s}]}'
        )
        nested = "[" * depth + '"a"' + "]" * depth
        assert_refused(server.post(IMAGES, content=body % nested), 400)
