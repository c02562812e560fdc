"""The request parameter `quality`, over the real application and both dialects."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine, load_engine
from serving.errors import InvalidRequest
from serving.model.manifest import GEARS
from serving.model.repository import latest_version, manifest_path
from tests.running.server import RunningServer, running_server

Pixels = NDArray[np.uint8]
CLASSIFY = "/v1/classify"
INFER = "/v2/models/ride/infer"


@pytest.fixture(scope="module")
def geared(
    repository: Path, middle_threshold: float, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundled model with made-up gears."""
    folder = tmp_path_factory.mktemp("geared") / "repository"
    shutil.copytree(repository, folder)
    path = manifest_path(folder, latest_version(folder))
    document = json.loads(path.read_text())
    thresholds = {"fast": [1.0, 1.0], "balanced": [middle_threshold, 1.0], "full": [0.0, 0.0]}
    accuracy = {"overall": 0.4, "many": 0.6, "medium": 0.3, "few": None}
    document["gears"] = {
        name: {
            "thresholds": thresholds[name],
            "mean_experts": 1.5,
            "mean_multiply_adds": 7e7,
            "accuracy": accuracy,
            "measured_on": "nothing",
        }
        for name in GEARS
    }
    path.write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def geared_server(
    geared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("geared_server") / "log.txt"
    with running_server(geared, log) as running:
        yield running


def classified(server: RunningServer, pictures: tuple[bytes, ...], **query: Any) -> list[int]:
    files = [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(pictures)]
    response = server.post(CLASSIFY, files=files, params=query)
    assert response.status_code == 200, response.text
    return [result["experts_used"] for result in response.json()["results"]]


def infer(server: RunningServer, pixels: Pixels, **parameters: Any) -> Any:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    request = {"parameters": parameters, "inputs": [{**tensor, "data": pixels.tolist()}]}
    return server.post(INFER, json=request)


def test_a_quality_is_the_thresholds_of_its_gear(
    geared_server: RunningServer,
    pictures: tuple[bytes, ...],
    pixels: Pixels,
    engine: Engine,
    middle_threshold: float,
) -> None:
    first = engine.classify(pixels, engine.rule(threshold=0.0)).router_scores[:, 0]
    expected = {
        "fast": [1] * len(pixels),
        "balanced": [2 if score > middle_threshold else 1 for score in first],
        "full": [3] * len(pixels),
    }
    assert len(set(expected["balanced"])) == 2
    for quality, experts in expected.items():
        assert classified(geared_server, pictures, quality=quality) == experts
        outputs = infer(geared_server, pixels, quality=quality).json()["outputs"]
        assert outputs[1]["data"] == experts


def test_without_quality_the_models_own_thresholds_hold(
    geared_server: RunningServer, pictures: tuple[bytes, ...], pixels: Pixels, engine: Engine
) -> None:
    experts = engine.classify(pixels, engine.rule()).experts_used.tolist()
    assert classified(geared_server, pictures) == experts


def test_quality_and_max_experts_go_together(
    geared_server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    assert set(classified(geared_server, pictures, quality="full", max_experts=2)) == {2}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"quality": "best"}, "the parameter 'quality' is wrong: Input should be 'fast', "),
        ({"quality": ""}, "the parameter 'quality' is wrong"),
        ({"quality": "Fast"}, "the parameter 'quality' is wrong"),
        ({"quality": "fast", "threshold": 0.5}, "give one of them"),
        ({"quality": "fast", "max_experts": 9}, "max_experts must lie between 1 and 3"),
    ],
)
def test_a_quality_that_makes_no_sense_is_refused(
    geared_server: RunningServer, pictures: tuple[bytes, ...], query: Any, sentence: str
) -> None:
    pixels = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    for response in (
        geared_server.post(CLASSIFY, content=pictures[0], params=query),
        infer(geared_server, pixels, **query),
    ):
        assert response.status_code == 400
        assert sentence in response.json()["error"]


def test_a_model_without_gears_takes_no_quality(engine: Engine) -> None:
    without = replace(engine, manifest=replace(engine.manifest, gears={}))
    with pytest.raises(InvalidRequest, match="this model has no gears, so it takes no quality"):
        without.rule(quality="fast")


def test_the_engine_names_the_gears_that_there_are(geared: Path) -> None:
    with pytest.raises(InvalidRequest, match="one of fast, balanced, full, not 'best'"):
        load_engine(geared).rule(quality="best")


def test_the_command_takes_a_quality_too(
    geared: Path, tmp_path: Path, pictures: tuple[bytes, ...], call_ride: Callable[..., Any]
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(pictures[0])
    flags = ("classify", file, "--repository", geared, "--json", "--quality")
    done: subprocess.CompletedProcess[str] = call_ride(*flags, "full")
    assert json.loads(done.stdout)["experts_used"] == 3
    assert "--quality is wrong" in call_ride(*flags, "best").stderr
