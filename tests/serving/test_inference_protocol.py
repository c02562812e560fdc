"""The Open Inference Protocol: its documents, and a real client that speaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from serving.engine import Engine
from serving.errors import InvalidRequest
from serving.inference_protocol import InferRequest, infer_response, parse_infer_request
from serving.parameters import CostParameters
from serving.routing import Routed
from tests.running_server import RunningServer

Pixels = NDArray[np.uint8]
Document = dict[str, Any]
OUTPUTS = ("probabilities", "experts_used", "router_scores")


def document(images: Pixels, **fields: Any) -> Document:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape)}
    return {"inputs": [{**tensor, "data": images.ravel().tolist()}], **fields}


def small(**fields: Any) -> Document:
    """A request for a 1 x 2 x 2 image: enough for a parser."""
    return document(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), **fields)


def small_with(**fields: Any) -> Document:
    """The same with something else in its tensor."""
    request = small()
    request["inputs"][0].update(fields)
    return request


def parse(request: object) -> InferRequest:
    return parse_infer_request(json.dumps(request).encode())


def test_flat_and_nested_data_are_the_same_image() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    flat, nested = document(images), document(images)
    nested["inputs"][0]["data"] = images.tolist()
    for request in (flat, nested):
        parsed = parse(request).images
        assert parsed.dtype == np.uint8
        np.testing.assert_array_equal(parsed, images)


def test_what_is_not_asked_for_is_left_to_the_model() -> None:
    request = parse(small())
    assert request.identity is None
    assert request.parameters == CostParameters()
    assert request.outputs == OUTPUTS


def test_identity_parameters_and_outputs_are_read() -> None:
    request = parse(
        small(
            id="42",
            parameters={"max_experts": 2, "threshold": 0, "binary_data_output": True},
            outputs=[{"name": "experts_used"}, {"name": "probabilities"}, {"name": "experts_used"}],
        )
    )
    assert request.identity == "42"
    assert request.parameters == CostParameters(max_experts=2, threshold=0.0)
    assert request.outputs == ("experts_used", "probabilities")


BAD_REQUESTS: dict[str, tuple[object, str]] = {
    "a list": ([], "the body must be a JSON object"),
    "null": (None, "the body must be a JSON object"),
    "no inputs": ({}, "inputs must be a list of one tensor"),
    "two inputs": ({"inputs": small()["inputs"] * 2}, "inputs must be a list of one tensor"),
    "input no object": ({"inputs": [3]}, r"inputs\[0\] must be a JSON object"),
    "other input": (small_with(name="pixels"), "the input must be named 'image'"),
    "no input name": (small_with(name=["image"]), "the input must be named 'image'"),
    "other datatype": (small_with(datatype="FP32"), "must have the datatype UINT8"),
    "binary data": (
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "parameters": {}}]},
        "has no data; this server reads tensors as JSON only",
    ),
    "no shape": (small_with(shape=None), "shape must be a list of four"),
    "no dimensions": (small_with(shape=[], data=[5]), "shape must be a list of four"),
    "too few dimensions": (small_with(shape=[2, 2, 3]), "shape must be a list of four"),
    "many dimensions": (small_with(shape=[1] * 100_000, data=[1]), "shape must be a list of four"),
    "shape of texts": (small_with(shape=["1", 2, 2, 3]), "whole number above 0"),
    "shape of floats": (small_with(shape=[1.0, 2, 2, 3]), "whole number above 0"),
    "shape of bools": (small_with(shape=[True, 2, 2, 3]), "whole number above 0"),
    "no rows": (small_with(shape=[0, 2, 2, 3], data=[]), "whole number above 0"),
    "negative shape": (small_with(shape=[-1, 2, 2, 3]), "whole number above 0"),
    "huge shape": (small_with(shape=[2**62, 2**62, 2**62, 3]), "data holds 12 numbers"),
    "other shape": (small_with(shape=[2, 2, 2, 3]), "data holds 12 numbers"),
    "nested otherwise": (
        small_with(data=np.zeros((1, 3, 2, 2), dtype=int).tolist()),
        r"data is nested as \[1, 3, 2, 2\], and shape says \[1, 2, 2, 3\]",
    ),
    "ragged": (small_with(data=[[1, 2], [3]]), "data must be a flat list"),
    "deep": (small_with(data=json.loads("[" * 500 + "]" * 500)), "data must"),
    "empty": (small_with(data=[]), "data must hold whole numbers"),
    "text": (small_with(data="\0" * 12), "data must hold whole numbers"),
    "an object": (small_with(data={}), "data must hold whole numbers"),
    "a null": (small_with(data=None), "data must hold whole numbers"),
    "nulls": (small_with(data=[None] * 12), "data must hold whole numbers"),
    "texts": (small_with(data=["1"] * 12), "data must hold whole numbers"),
    "bools": (small_with(data=[True] * 12), "data must hold whole numbers"),
    "floats": (small_with(data=[1.0] * 12), "data must hold whole numbers"),
    "negative": (small_with(data=[-1] * 12), "data must hold whole numbers"),
    "above 255": (small_with(data=[256] * 12), "data must hold whole numbers"),
    "far above 255": (small_with(data=[2**64 - 1] * 12), "data must hold whole numbers"),
    "far apart": (small_with(data=[2**64 - 1, -(2**63)] * 6), "data must hold whole numbers"),
    "identity": (small(id=5), "id must be a text"),
    "parameters": (small(parameters=[]), "parameters must be a JSON object"),
    "unknown parameter": (small(parameters={"query": 1}), "there is no parameter 'query'"),
    "image parameter": (small(parameters={"top_k": 1}), "there is no parameter 'top_k'"),
    "max_experts of zero": (small(parameters={"max_experts": 0}), "'max_experts' is wrong"),
    "max_experts of true": (small(parameters={"max_experts": True}), "'max_experts' is wrong"),
    "max_experts as text": (small(parameters={"max_experts": "2"}), "'max_experts' is wrong"),
    "threshold above 1": (small(parameters={"threshold": 1.5}), "'threshold' is wrong"),
    "threshold as text": (small(parameters={"threshold": "0.5"}), "'threshold' is wrong"),
    "outputs": (small(outputs={}), "outputs must be a list"),
    "output no object": (small(outputs=["probabilities"]), "an output must be a JSON object"),
    "unknown output": (small(outputs=[{"name": "logits"}]), "there is no output 'logits'"),
    "output without name": (small(outputs=[{}]), "every output must have a name"),
    "deep output name": (
        small(outputs=[{"name": json.loads("[" * 900 + "]" * 900)}]),
        "every output must have a name",
    ),
}


@pytest.mark.parametrize(("bad", "sentence"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_refused_in_one_sentence(bad: object, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        parse(bad)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b'{"inputs": NaN}', b"[" * 100_000, b"{" * 100_000, b'"\\ud800"'],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body is not JSON"):
        parse_infer_request(content)


def test_an_answer_holds_the_wanted_outputs_with_null_for_nan() -> None:
    routed = Routed(
        np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32),
        np.array([1, 3], dtype=np.int32),
        np.array([[0.125, np.nan], [0.5, 1.0]], dtype=np.float32),
    )
    request = parse(small(id="a", outputs=[{"name": "router_scores"}, {"name": "experts_used"}]))
    assert json.loads(infer_response(request, routed, 7)) == {
        "model_name": "ride",
        "model_version": "7",
        "id": "a",
        "outputs": [
            {
                "name": "router_scores",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": [0.125, None, 0.5, 1.0],
            },
            {"name": "experts_used", "datatype": "INT32", "shape": [2], "data": [1, 3]},
        ],
    }


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    yield client
    client.close()


def infer(
    client: triton.InferenceServerClient, images: Pixels, **options: Any
) -> Callable[[str], NDArray[Any]]:
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=False)
    outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    result = client.infer("ride", [tensor], outputs=outputs, **options)

    def output(name: str) -> NDArray[Any]:
        array: NDArray[Any] = result.as_numpy(name)
        return array

    return output


def test_a_triton_client_finds_the_server_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ride")
    assert client.is_model_ready("ride", "1")
    assert not client.is_model_ready("ride", "2")
    assert not client.is_model_ready("resnet")
    assert client.get_server_metadata()["name"] == "ride-server"


def test_a_triton_client_reads_what_the_model_takes_and_gives(
    client: triton.InferenceServerClient, engine: Engine
) -> None:
    image, classes = engine.manifest.image, engine.manifest.num_classes
    routers = engine.manifest.num_experts - 1
    metadata = client.get_model_metadata("ride")
    assert metadata["name"] == "ride"
    assert metadata["versions"] == [str(engine.version)]
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, image.height, image.width, 3]}
    ]
    assert metadata["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        {"name": "experts_used", "datatype": "INT32", "shape": [-1]},
        {"name": "router_scores", "datatype": "FP32", "shape": [-1, routers]},
    ]


def test_a_triton_client_gets_the_engines_answers(
    client: triton.InferenceServerClient, engine: Engine, pixels: Pixels, middle_threshold: float
) -> None:
    for parameters in (None, {"threshold": middle_threshold}, {"max_experts": 2, "threshold": 0}):
        output = infer(client, pixels, parameters=parameters)
        expected = engine.classify(pixels, engine.rule(**(parameters or {})))
        np.testing.assert_array_equal(output("experts_used"), expected.experts_used)
        np.testing.assert_allclose(output("probabilities"), expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(output("router_scores"), expected.router_scores, atol=1e-5)
        assert output("experts_used").dtype == np.int32
        assert output("router_scores").dtype == np.float32


def test_scores_of_routers_that_were_not_asked_reach_a_triton_client_as_nan(
    client: triton.InferenceServerClient, pixels: Pixels
) -> None:
    scores = infer(client, pixels[:3], parameters={"threshold": 1.0})("router_scores")
    assert np.isfinite(scores[:, 0]).all()
    assert np.isnan(scores[:, 1:]).all()


def test_a_triton_client_that_asks_for_the_defaults_is_answered(
    client: triton.InferenceServerClient, pixels: Pixels
) -> None:
    tensor = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
    tensor.set_data_from_numpy(pixels[:1], binary_data=False)
    result = client.infer("ride", [tensor], request_id="mine", model_version="1")
    assert result.get_response()["id"] == "mine"
    assert result.as_numpy("probabilities").shape == (1, 100)


def test_a_triton_client_with_binary_data_is_told_how_to_do_without(
    client: triton.InferenceServerClient, pixels: Pixels
) -> None:
    tensor = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
    tensor.set_data_from_numpy(pixels[:1])
    advice = re.escape("set_data_from_numpy(.., binary_data=False)")
    with pytest.raises(triton.InferenceServerException, match=advice):
        client.infer("ride", [tensor])
