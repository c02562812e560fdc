"""The models in Triton give the embedded server's answers, and its errors, each to its request."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from serving.images.decode import ImageLimits, decode_image
from tests.running.server import RunningServer
from tests.running.triton import RunningTriton
from tests.serving.images.pictures import encode
from tests.triton.conftest import Client

Expect = Callable[..., None]
SIZES = (1, 2, 7, 32)
BY_GRPC = pytest.mark.parametrize("client", ["grpc"], indirect=True)


def slices(count: int) -> list[slice]:
    """Requests of mixed sizes that cover so many images."""
    parts: list[slice] = []
    start = 0
    while start < count:
        size = SIZES[len(parts) % len(SIZES)]
        parts.append(slice(start, min(start + size, count)))
        start += size
    return parts


def test_images_get_the_engine_s_answers(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    for part in slices(40):
        expect(client.infer("ride", client.image(images.pixels[part])), images.pixels[part])


@BY_GRPC
def test_batches_of_many_clients_change_no_answer(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    parts = slices(400)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(
            lambda part: client.infer("ride", client.image(images.pixels[part])), parts
        )
        for part, answer in zip(parts, answers, strict=True):
            expect(answer, images.pixels[part])


def test_files_may_come_in_base64(client: Client, images: SampleImages, expect: Expect) -> None:
    texts = [base64.b64encode(file) for file in images.files[:8]]
    expect(client.infer("ride_image", client.files(texts)), images.pixels[:8])


def test_encoded_images_are_decoded_as_the_embedded_server_does(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    for part in slices(40):
        files = list(images.files[part])
        expect(client.infer("ride_image", client.files(files)), images.pixels[part])


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_experts": 1},
        {"max_experts": 2, "threshold": 0.1},
        {"threshold": 0.9},
        {"quality": "fast"},
        {"quality": "full", "max_experts": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["ride", "ride_image"])
def test_parameters_trade_cost_for_accuracy(
    client: Client, images: SampleImages, expect: Expect, model: str, parameters: dict[str, Any]
) -> None:
    pixels, files = images.pixels[:16], list(images.files[:16])
    tensor = client.image(pixels) if model == "ride" else client.files(files)
    expect(client.infer(model, tensor, parameters=parameters), pixels, **parameters)


@BY_GRPC
def test_requests_with_different_parameters_share_a_batch(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    wishes: list[dict[str, Any]] = [{"max_experts": 1}, {"threshold": 0.0}, {"quality": "fast"}, {}]

    def ask(number: int) -> Any:
        pixels = images.pixels[number : number + 1]
        return client.infer("ride", client.image(pixels), parameters=wishes[number % 4])

    with ThreadPoolExecutor(32) as threads:
        for number, answer in enumerate(threads.map(ask, range(128))):
            expect(answer, images.pixels[number : number + 1], **wishes[number % 4])


def test_metadata_is_the_embedded_server_s(triton: RunningTriton, server: RunningServer) -> None:
    for model in ("ride", "ride_image"):
        ours = server.get(f"/v2/models/{model}").json()
        theirs = httpx.get(f"{triton.url}/v2/models/{model}").json()
        if model == "ride":  # Triton has no name for the shape of one number an image
            assert theirs["outputs"][1]["shape"] == [-1, 1]
            theirs["outputs"][1]["shape"] = [-1]
        for key in ("name", "versions", "inputs", "outputs"):
            assert theirs[key] == ours[key], (model, key)


def test_classes_have_their_names(client: Client, images: SampleImages, engine: Engine) -> None:
    """Triton's classification extension: the best classes as texts."""
    pixels = images.pixels[:4]
    best = client.module.InferRequestedOutput("probabilities", class_count=2)
    texts = client.infer("ride", client.image(pixels), outputs=[best]).as_numpy("probabilities")
    names = engine.manifest.class_names
    expected = engine.classify(pixels, engine.rule()).probabilities
    for row, probabilities in zip(texts, expected, strict=True):
        for text, index in zip(row, np.argsort(-probabilities)[:2], strict=True):
            probability, number, name = text.decode().split(":")
            assert float(probability) == pytest.approx(probabilities[index], abs=1e-5)
            assert (int(number), name) == (index, names[index])


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"max_experts": 0}, "max_experts"),
        ({"max_experts": 4}, "max_experts must lie between 1 and 3, not 4"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": 0.5, "quality": "fast"}, "give one of them"),
        ({"quality": "best"}, "quality"),
        ({"temperature": 2}, "there is no parameter 'temperature'"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named(
    client: Client, images: SampleImages, parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence) as error:
        client.infer("ride", client.image(images.pixels[:1]), parameters=parameters)
    assert error.value.status() in {"400", "StatusCode.INVALID_ARGUMENT"}


def test_a_tensor_of_another_shape_or_type_is_refused(client: Client, images: SampleImages) -> None:
    pixels = images.pixels[:2]
    wrong = [
        client.image(np.zeros((2, 16, 16, 3), np.uint8)),
        client.image(pixels[0]),
        client.image(pixels.astype(np.float32), "FP32"),
        client.image(np.zeros((1_025, 32, 32, 3), np.uint8)),
        client.image(pixels[:0]),
    ]
    for tensor in wrong:
        with pytest.raises(InferenceServerException):
            client.infer("ride", tensor)
    assert client.infer("ride", client.image(pixels)).as_numpy("experts_used").shape == (2,)


def test_what_a_file_is_short_of_makes_no_difference_inside_triton(
    client: Client, images: SampleImages, engine: Engine, expect: Expect
) -> None:
    image = Image.fromarray(images.pixels[0])
    grey = np.asarray(image.convert("L")).astype(np.uint16) << 4
    files = [
        encode(image, "JPEG").removesuffix(b"\xff\xd9"),
        encode(image, "AVIF"),
        encode(Image.fromarray(grey | 1), "PNG"),
    ]
    spec = engine.manifest.image
    pixels = np.stack([decode_image(file, spec, ImageLimits()) for file in files])
    expect(client.infer("ride_image", client.files(files)), pixels)


def test_a_bad_image_is_named_by_its_row(client: Client, images: SampleImages) -> None:
    good = images.files[0]
    for bad, reason in (
        (b"no image", "the bytes are text"),
        (good[:60], "cut short"),
        (b"", "empty"),
    ):
        with pytest.raises(InferenceServerException, match=f"row 1: .*{reason}") as error:
            client.infer("ride_image", client.files([good, bad, good]))
        assert error.value.status() in {"400", "StatusCode.INVALID_ARGUMENT"}
    with pytest.raises(InferenceServerException, match="1024 images, not 1025"):
        client.infer("ride_image", client.files([good] * 1_025))


@BY_GRPC
def test_a_bad_request_costs_those_in_its_batch_nothing(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    def ask(number: int) -> Any:
        parameters = {"max_experts": 99} if number % 3 == 0 else {}
        try:
            return client.infer(
                "ride", client.image(images.pixels[number : number + 1]), parameters=parameters
            )
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, range(150)))
    for number, answer in enumerate(answers):
        if number % 3 == 0:
            assert isinstance(answer, InferenceServerException)
            assert "max_experts" in answer.message()
        else:
            expect(answer, images.pixels[number : number + 1])


def test_an_engine_without_triton_has_the_same_model(engine: Engine, images: SampleImages) -> None:
    """The images are worth it: they stop after one, two and three experts."""
    used = engine.classify(images.pixels[:400], engine.rule()).experts_used
    assert set(used.tolist()) == {1, 2, 3}
