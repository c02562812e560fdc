"""The Open Inference Protocol over HTTP: its documents, and raw data behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.inference import (
    InferRequest,
    InferResponse,
    OutputTensor,
    WantedOutput,
    all_outputs,
)
from serving.dataplane.tensors import Array, Datatype, TensorSpec, encode_raw
from serving.errors import InvalidRequest, RequestTooLarge
from serving.http.protocol_json import InferBody, infer_body, parse_infer_request

Pixels = NDArray[np.uint8]
Document = dict[str, Any]
OUTPUTS = ("probabilities", "experts_used", "router_scores")
SMALL = TensorSpec("image", Datatype.UINT8, (-1, 2, 2, 3))
FILES = TensorSpec("image_bytes", Datatype.BYTES, (-1,))


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
    return parse_infer_request(json.dumps(request).encode(), SMALL)


def sent(request: InferRequest) -> Array:
    """The input of a request that holds it itself."""
    assert isinstance(request.data, np.ndarray)
    return request.data


def with_raw(head: Document, raw: bytes) -> tuple[bytes, str]:
    """A body and its header: JSON, then raw data."""
    encoded = json.dumps(head).encode()
    return encoded + raw, str(len(encoded))


def raw_head(name: str, datatype: str, shape: list[int], size: object, **fields: Any) -> Document:
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}], **fields}


def test_flat_and_nested_data_are_the_same_image() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    flat, nested = document(images), document(images)
    nested["inputs"][0]["data"] = images.tolist()
    for request in (flat, nested):
        parsed = sent(parse(request))
        assert parsed.dtype == np.uint8
        np.testing.assert_array_equal(parsed, images)


def test_what_is_not_asked_for_is_left_to_the_model() -> None:
    request = parse(small())
    assert request.identity is None
    assert request.parameters == {}
    assert request.outputs == all_outputs(binary=False)


def test_identity_parameters_and_outputs_are_read() -> None:
    request = parse(
        small(
            id="42",
            parameters={"max_experts": 2, "threshold": 0, "binary_data_output": True},
            outputs=[
                {"name": "experts_used", "parameters": {"binary_data": False}},
                {"name": "probabilities", "parameters": {"classification": 3}},
            ],
        )
    )
    assert request.identity == "42"
    assert request.parameters == {"max_experts": 2, "threshold": 0}
    assert request.outputs == (
        WantedOutput("experts_used", binary=False),
        WantedOutput("probabilities", binary=True, classes=3),
    )


def test_an_output_that_is_named_twice_is_given_once() -> None:
    request = parse(small(outputs=[{"name": "experts_used"}, {"name": "experts_used"}]))
    assert request.outputs == (WantedOutput("experts_used"),)


def test_raw_data_follows_the_json() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    body, length = with_raw(raw_head("image", "UINT8", [2, 2, 2, 3], 24), images.tobytes())
    np.testing.assert_array_equal(sent(parse_infer_request(body, SMALL, length)), images)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_raw_bytes_are_read_as_they_were_written(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    raw = encode_raw(array)
    head = raw_head("image_bytes", "BYTES", [len(elements)], len(raw))
    body, length = with_raw(head, raw)
    assert sent(parse_infer_request(body, FILES, length)).tolist() == elements


@given(raw=st.binary(max_size=40), rows=st.integers(1, 4))
def test_raw_bytes_of_any_kind_are_read_or_refused(raw: bytes, rows: int) -> None:
    body, length = with_raw(raw_head("image_bytes", "BYTES", [rows], len(raw)), raw)
    try:
        data = sent(parse_infer_request(body, FILES, length))
    except InvalidRequest as error:
        assert f"must hold {rows} elements" in str(error)
    else:
        assert encode_raw(data) == raw


def test_a_body_of_raw_data_alone_is_the_input() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    request = parse_infer_request(images.tobytes(), SMALL, "0")
    np.testing.assert_array_equal(request.data, images)
    assert request.outputs == all_outputs(binary=True)
    assert sent(parse_infer_request(b"JPEG", FILES, "0")).tolist() == [b"JPEG"]


HEAD = raw_head("image", "UINT8", [1, 2, 2, 3], 12)
BAD_FRAMES: dict[str, tuple[bytes, str, str]] = {
    "negative length": (b"{}", "-1", "must be the length of the body's JSON"),
    "length of text": (b"{}", "two", "must be the length of the body's JSON"),
    "length of other digits": (b"{}", "\u0662", "must be the length of the body's JSON"),
    "length without end": (b"{}", "9" * 5000, "must be the length of the body's JSON"),
    "length beyond the body": (b"{}", "3", "must be the length of the body's JSON"),
    "empty raw body": (b"", "0", "a raw body must hold whole images of 12 bytes"),
    "half an image": (bytes(18), "0", "a raw body must hold whole images of 12 bytes"),
    "too few bytes": (*with_raw(HEAD, bytes(11)), "that follow the JSON, 11"),
    "too many bytes": (*with_raw(HEAD, bytes(13)), "that follow the JSON, 13"),
    "size and shape differ": (
        *with_raw(raw_head("image", "UINT8", [2, 2, 2, 3], 12), bytes(12)),
        "has 12 bytes, and its shape",
    ),
    "size as text": (
        *with_raw(raw_head("image", "UINT8", [1, 2, 2, 3], "12"), bytes(12)),
        "that follow the JSON, 12",
    ),
    "bytes that nobody claims": (*with_raw(small(), bytes(5)), "no input claims them"),
    "cut inside the JSON": (b'{"inputs": []}', "5", "the body is not JSON"),
}


@pytest.mark.parametrize(("body", "length", "sentence"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_refused_in_one_sentence(body: bytes, length: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        parse_infer_request(body, SMALL, length)
    assert len(str(caught.value)) < 300


def test_files_come_as_texts() -> None:
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}
    request = {"inputs": [{**tensor, "data": ["text", {"b64": "more"}]}]}
    parsed = sent(parse_infer_request(json.dumps(request).encode(), FILES))
    assert parsed.tolist() == [b"text", b"more"]


def test_too_many_rows_are_refused_by_their_number_alone() -> None:
    """What is made of each would take far more memory than the few bytes that it came in."""
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [3]}
    few = replace(FILES, most_rows=2)
    raw = with_raw(raw_head("image_bytes", "BYTES", [3], 4), b"none")
    for request in ((json.dumps({"inputs": [{**tensor, "data": None}]}).encode(), None), raw):
        with pytest.raises(RequestTooLarge, match="may hold 2 images, not 3"):
            parse_infer_request(request[0], few, request[1])


BAD_REQUESTS: dict[str, tuple[object, str]] = {
    "a list": ([], "the body must be a JSON object"),
    "null": (None, "the body must be a JSON object"),
    "no inputs": ({}, "inputs must be a list of one tensor"),
    "two inputs": ({"inputs": small()["inputs"] * 2}, "inputs must be a list of one tensor"),
    "input no object": ({"inputs": [3]}, r"inputs\[0\] must be a JSON object"),
    "other input": (small_with(name="pixels"), "the input must be named 'image'"),
    "no input name": (small_with(name=["image"]), "the input must be named 'image'"),
    "other datatype": (small_with(datatype="FP32"), "must have the datatype UINT8"),
    "no data": (
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3]}]},
        "has neither data nor binary_data_size",
    ),
    "tensor parameters": (small_with(parameters=[]), "parameters must be a JSON object"),
    "no shape": (small_with(shape=None), "shape must be a list"),
    "no dimensions": (small_with(shape=[], data=[5]), "and it has 0 dimensions"),
    "too few dimensions": (small_with(shape=[2, 2, 3]), "and it has 3 dimensions"),
    "many dimensions": (small_with(shape=[1] * 100_000, data=[1]), "and it has 100000 dimensions"),
    "other size": (small_with(shape=[1, 4, 1, 3]), r"shape \[N, 2, 2, 3\], not \[1, 4, 1, 3\]"),
    "shape of texts": (small_with(shape=["1", 2, 2, 3]), "whole number above 0"),
    "shape of floats": (small_with(shape=[1.0, 2, 2, 3]), "whole number above 0"),
    "shape of bools": (small_with(shape=[True, 2, 2, 3]), "whole number above 0"),
    "no rows": (small_with(shape=[0, 2, 2, 3], data=[]), "whole number above 0"),
    "negative shape": (small_with(shape=[-1, 2, 2, 3]), "whole number above 0"),
    "huge shape": (small_with(shape=[2**62, 2, 2, 3]), "data holds 12 numbers"),
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
    "a null": (small_with(data=None), "has neither data nor binary_data_size"),
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
    "binary output": (small(parameters={"binary_data_output": 1}), "must be true or false"),
    "outputs": (small(outputs={}), "outputs must be a list"),
    "output no object": (small(outputs=["probabilities"]), "an output must be a JSON object"),
    "unknown output": (small(outputs=[{"name": "logits"}]), "there is no output 'logits'"),
    "output without name": (small(outputs=[{}]), "every output must have a name"),
    "output parameters": (
        small(outputs=[{"name": "experts_used", "parameters": 1}]),
        "an output's parameters must be a JSON object",
    ),
    "binary output of text": (
        small(outputs=[{"name": "experts_used", "parameters": {"binary_data": "yes"}}]),
        "binary_data must be true or false",
    ),
    "classification of counts": (
        small(outputs=[{"name": "experts_used", "parameters": {"classification": 1}}]),
        "only the output 'probabilities' can be given as a classification",
    ),
    "negative classification": (
        small(outputs=[{"name": "probabilities", "parameters": {"classification": -1}}]),
        "classification must be a whole number",
    ),
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
        parse_infer_request(content, SMALL)


def answer(*wanted: WantedOutput) -> InferBody:
    arrays = {
        "experts_used": (Datatype.INT32, np.array([1, 3], dtype=np.int32)),
        "router_scores": (Datatype.FP32, np.array([[0.125, np.nan], [0.5, 1]], dtype=np.float32)),
    }
    outputs = tuple(OutputTensor(output, *arrays[output.name]) for output in wanted)
    return infer_body(InferResponse(ModelDescription("ride", "7", (SMALL,), ()), outputs, "a"))


def test_an_answer_holds_the_wanted_outputs_with_null_for_nan() -> None:
    body = answer(WantedOutput("router_scores"), WantedOutput("experts_used"))
    assert body.header_length is None
    assert json.loads(body.content) == {
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


def test_raw_outputs_follow_the_json_in_its_order() -> None:
    body = answer(WantedOutput("router_scores", binary=True), WantedOutput("experts_used"))
    assert body.header_length is not None
    head = json.loads(body.content[: body.header_length])
    assert head["outputs"] == [
        {
            "name": "router_scores",
            "datatype": "FP32",
            "shape": [2, 2],
            "parameters": {"binary_data_size": 16},
        },
        {"name": "experts_used", "datatype": "INT32", "shape": [2], "data": [1, 3]},
    ]
    scores = np.frombuffer(body.content[body.header_length :], "<f4")
    np.testing.assert_array_equal(scores, np.array([0.125, np.nan, 0.5, 1], dtype=np.float32))
