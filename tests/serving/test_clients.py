"""tritonclient, unchanged, in all four forms: the answers are the engine's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from serving.engine.graphs import Engine
from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
OUTPUTS = ("probabilities", "experts_used", "router_scores")


def http_address(server: RunningServer) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[tritonclient.http.InferenceServerClient]:
    with closing(tritonclient.http.InferenceServerClient(http_address(server))) as client:
        yield client


@pytest.fixture(scope="module")
def grpc(server: RunningServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with closing(tritonclient.grpc.InferenceServerClient(server.grpc_address)) as client:
        yield client


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def module_of(client: Any) -> Any:
    """The module of a client's inputs and outputs."""
    return tritonclient.grpc if "grpc" in type(client).__module__ else tritonclient.http


def image_input(module: Any, images: Pixels, **options: bool) -> Any:
    tensor = module.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, **options)
    return tensor


def file_input(module: Any, files: list[bytes]) -> Any:
    tensor = module.InferInput("image_bytes", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_))
    return tensor


def assert_is(result: Any, engine: Engine, pixels: Pixels, parameters: dict[str, Any]) -> None:
    expected = engine.classify(pixels, engine.rule(**parameters))
    assert result.as_numpy("experts_used").dtype == np.int32
    assert result.as_numpy("router_scores").dtype == np.float32
    np.testing.assert_array_equal(result.as_numpy("experts_used"), expected.experts_used)
    for name in ("probabilities", "router_scores"):
        np.testing.assert_allclose(result.as_numpy(name), getattr(expected, name), atol=1e-5)


def test_a_client_finds_the_server_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ride")
    assert client.is_model_ready("ride_image", "1")
    assert not client.is_model_ready("ride", "2")
    assert not client.is_model_ready("resnet")


def test_the_server_lists_what_it_extends(
    http: tritonclient.http.InferenceServerClient, grpc: tritonclient.grpc.InferenceServerClient
) -> None:
    over_http, over_grpc = http.get_server_metadata(), grpc.get_server_metadata(as_json=True)
    assert over_http == over_grpc
    assert over_http["name"] == "ride-server"
    assert "binary_tensor_data" in over_http["extensions"]


@pytest.mark.parametrize("model", ["ride", "ride_image"])
def test_both_transports_describe_a_model_alike(
    http: tritonclient.http.InferenceServerClient,
    grpc: tritonclient.grpc.InferenceServerClient,
    engine: Engine,
    model: str,
) -> None:
    metadata = http.get_model_metadata(model)
    image, classes = engine.manifest.image, engine.manifest.num_classes
    routers = engine.manifest.num_experts - 1
    assert metadata["name"] == model
    assert metadata["versions"] == [str(engine.version)]
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, image.height, image.width, 3]}
        if model == "ride"
        else {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}
    ]
    assert metadata["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        {"name": "experts_used", "datatype": "INT32", "shape": [-1]},
        {"name": "router_scores", "datatype": "FP32", "shape": [-1, routers]},
    ]
    described = grpc.get_model_metadata(model, as_json=True)
    assert [tensor["shape"] for tensor in described["outputs"]] == [
        [str(size) for size in tensor["shape"]] for tensor in metadata["outputs"]
    ]
    config = http.get_model_config(model)
    assert config["max_batch_size"] == 0
    assert [tensor["dims"] for tensor in config["output"]] == [
        tensor["shape"] for tensor in metadata["outputs"]
    ]
    over_grpc = grpc.get_model_config(model, as_json=True)["config"]
    assert [tensor["data_type"] for tensor in over_grpc["input"] + over_grpc["output"]] == [
        tensor["data_type"] for tensor in config["input"] + config["output"]
    ]


@pytest.mark.parametrize("parameters", [{}, {"threshold": 0.5}, {"max_experts": 2}])
def test_prepared_images_get_the_engines_answers(
    client: Any, engine: Engine, pixels: Pixels, parameters: dict[str, Any]
) -> None:
    module = module_of(client)
    result = client.infer("ride", [image_input(module, pixels)], parameters=parameters)
    assert_is(result, engine, pixels, parameters)


def test_encoded_images_get_the_same_answers(
    client: Any, engine: Engine, pixels: Pixels, png: Callable[[Pixels], bytes]
) -> None:
    files = file_input(module_of(client), [png(image) for image in pixels])
    assert_is(client.infer("ride_image", [files]), engine, pixels, {})


def test_json_tensors_are_answered_as_json(
    http: tritonclient.http.InferenceServerClient, engine: Engine, pixels: Pixels
) -> None:
    outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    tensor = image_input(tritonclient.http, pixels, binary_data=False)
    result = http.infer("ride", [tensor], outputs=outputs)
    assert all("data" in output for output in result.get_response()["outputs"])
    assert_is(result, engine, pixels, {})


def test_raw_and_json_outputs_mix(
    http: tritonclient.http.InferenceServerClient, engine: Engine, pixels: Pixels
) -> None:
    outputs = [
        tritonclient.http.InferRequestedOutput(name, binary_data=name != "experts_used")
        for name in OUTPUTS
    ]
    result = http.infer("ride", [image_input(tritonclient.http, pixels)], outputs=outputs)
    assert_is(result, engine, pixels, {})


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("answer_coding", [None, "gzip", "deflate"])
def test_bodies_may_be_compressed(
    http: tritonclient.http.InferenceServerClient,
    engine: Engine,
    pixels: Pixels,
    request_coding: str | None,
    answer_coding: str | None,
) -> None:
    result = http.infer(
        "ride",
        [image_input(tritonclient.http, pixels[:3])],
        request_compression_algorithm=request_coding,
        response_compression_algorithm=answer_coding,
    )
    assert_is(result, engine, pixels[:3], {})


def test_grpc_may_be_compressed(
    grpc: tritonclient.grpc.InferenceServerClient, engine: Engine, pixels: Pixels
) -> None:
    tensor = image_input(tritonclient.grpc, pixels)
    assert_is(grpc.infer("ride", [tensor], compression_algorithm="gzip"), engine, pixels, {})


def test_a_request_has_an_identity_and_a_version(client: Any, pixels: Pixels) -> None:
    tensor = image_input(module_of(client), pixels[:1])
    result = client.infer("ride", [tensor], request_id="mine", model_version="1")
    response = result.get_response()
    identity = response["id"] if isinstance(response, dict) else response.id
    assert identity == "mine"


def test_only_wanted_outputs_are_sent(client: Any, pixels: Pixels) -> None:
    module = module_of(client)
    outputs = [module.InferRequestedOutput("experts_used")]
    result = client.infer("ride", [image_input(module, pixels[:2])], outputs=outputs)
    assert result.as_numpy("experts_used").shape == (2,)
    assert result.as_numpy("probabilities") is None


def test_the_best_classes_come_as_texts(client: Any, engine: Engine, pixels: Pixels) -> None:
    module = module_of(client)
    outputs = [module.InferRequestedOutput("probabilities", class_count=3)]
    result = client.infer("ride", [image_input(module, pixels[:2])], outputs=outputs)
    texts = result.as_numpy("probabilities")
    expected = engine.classify(pixels[:2], engine.rule()).probabilities
    assert texts.shape == (2, 3)
    for row in range(2):
        parts = [text.decode().split(":") for text in texts[row]]
        best = np.argsort(-expected[row])[:3]
        assert [int(index) for _, index, _ in parts] == best.tolist()
        assert [name for _, _, name in parts] == [engine.manifest.class_names[i] for i in best]
        values = [float(value) for value, _, _ in parts]
        np.testing.assert_allclose(values, expected[row][best], atol=1e-5)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "model": ("resnet", {}, "there is no model 'resnet'"),
    "version": ("ride", {"model_version": "9"}, "version '9' of ride is not served"),
    "parameter": ("ride", {"parameters": {"speed": 9}}, "there is no parameter 'speed'"),
    "range": ("ride", {"parameters": {"max_experts": 9}}, "max_experts must lie between 1 and"),
    "type": ("ride", {"parameters": {"threshold": "high"}}, "'threshold' is wrong"),
    "gear": ("ride", {"parameters": {"quality": "best"}}, "'quality' is wrong"),
}


@pytest.mark.parametrize(("model", "options", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_alike(
    client: Any, pixels: Pixels, model: str, options: dict[str, Any], sentence: str
) -> None:
    tensor = image_input(module_of(client), pixels[:1])
    with pytest.raises(InferenceServerException, match=sentence):
        client.infer(model, [tensor], **options)


def test_a_tensor_of_another_shape_is_refused_alike(client: Any) -> None:
    tensor = image_input(module_of(client), np.zeros((1, 32, 31, 3), np.uint8))
    with pytest.raises(InferenceServerException, match=r"shape \[N, 32, 32, 3\], not"):
        client.infer("ride", [tensor])


def test_a_file_that_is_no_image_is_named_by_its_row(
    client: Any, pixels: Pixels, png: Callable[[Pixels], bytes]
) -> None:
    files = file_input(module_of(client), [png(pixels[0]), b"no image"])
    with pytest.raises(InferenceServerException, match="row 1: "):
        client.infer("ride_image", [files])


async def ask_aio(module: Any, address: str, images: Pixels) -> list[Any]:
    async def ask(client: Any, part: Pixels) -> Any:
        return await client.infer("ride", [image_input(module, part)])

    async with module.aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("ride")) is not None
        requests: list[Awaitable[Any]] = [ask(client, images[i : i + 1]) for i in range(8)]
        return await asyncio.gather(*requests)


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_asyncio_clients_are_answered_at_the_same_time(
    server: RunningServer, engine: Engine, pixels: Pixels, module: Any
) -> None:
    over_grpc = module is tritonclient.grpc
    address = server.grpc_address if over_grpc else http_address(server)
    results = asyncio.run(ask_aio(module, address, pixels))
    for row, result in enumerate(results):
        assert_is(result, engine, pixels[row : row + 1], {})


def test_a_body_of_pixels_alone_is_answered_raw(
    server: RunningServer, engine: Engine, pixels: Pixels
) -> None:
    """What `curl --data-binary` can send."""
    answer = server.post(
        "/v2/models/ride/infer",
        content=pixels[:2].tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    result = tritonclient.http.InferenceServerClient.parse_response_body(
        answer.content, header_length=length
    )
    assert_is(result, engine, pixels[:2], {})


def test_an_unknown_encoding_is_refused_with_the_known_ones(server: RunningServer) -> None:
    answer = server.post("/v2/models/ride/infer", content=b"", headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
