"""The HTTP dialects over real sockets: good answers, and how they are documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest
from PIL import Image

from serving.engine.graphs import Engine
from serving.images.decode import decode_image
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.serving.http.requests import (
    INFER,
    Pixels,
    as_files,
    assert_result,
)
from tests.serving.images.pictures import LIMITS, encode


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


def test_files_as_phones_and_microscopes_write_them_are_answered(
    server: RunningServer, engine: Engine, pixels: Pixels
) -> None:
    image = Image.fromarray(pixels[0])
    grey = np.asarray(image.convert("L")).astype(np.uint16) << 4
    files = [
        encode(image, "JPEG").removesuffix(b"\xff\xd9"),
        encode(image, "AVIF"),
        encode(Image.fromarray(grey | 1), "PNG"),
    ]
    decoded = np.stack([decode_image(file, engine.manifest.image, LIMITS) for file in files])
    np.testing.assert_array_equal(decoded[2], np.asarray(image.convert("L").convert("RGB")))
    expected = engine.classify(decoded, engine.rule()).probabilities.argmax(axis=1).tolist()
    results = server.post(CLASSIFY, files=as_files(tuple(files))).json()["results"]
    assert [result["labels"][0]["index"] for result in results] == expected


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
    assert set(classify["requestBody"]["content"]) == {
        *("image/jpeg", "image/png", "image/webp", "multipart/form-data")
    }
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
