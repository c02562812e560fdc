"""KServe's Python client, unchanged, over REST and gRPC: the answers are the engine's."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import kserve_client
from serving.engine.graphs import Engine
from tests.checkout import ROOT
from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
CALLS = ROOT / "tests" / "running" / "kserve_calls.py"


@pytest.fixture(scope="module")
def python() -> Path:
    return kserve_client.install()


def ask(python: Path, what: str, **asked: Any) -> Any:
    command = [str(python), str(CALLS), what]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def asked(pixels: Pixels, pictures: tuple[bytes, ...]) -> dict[str, Any]:
    return {
        "shape": list(pixels[:2].shape),
        "pixels": base64.b64encode(pixels[:2].tobytes()).decode(),
        "files": [base64.b64encode(picture).decode() for picture in pictures[:2]],
    }


def assert_answer(answer: dict[str, Any], model: str, engine: Engine, pixels: Pixels) -> None:
    expected = engine.classify(pixels[:2], engine.rule())
    assert answer["model"] == model
    assert np.ravel(answer["experts_used"]).tolist() == expected.experts_used.tolist()
    probabilities = np.reshape(answer["probabilities"], expected.probabilities.shape)
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)


def test_over_rest(
    server: RunningServer,
    python: Path,
    engine: Engine,
    pixels: Pixels,
    pictures: tuple[bytes, ...],
) -> None:
    answers = ask(python, "rest", url=server.url, **asked(pixels, pictures))
    told = {name: answers[name] for name in ("live", "ready", "model ready", "other ready")}
    assert told == {"live": True, "ready": True, "model ready": True, "other ready": False}
    for name, model in (("json", "ride"), ("binary", "ride"), ("files", "ride_image")):
        assert_answer(answers[name], model, engine, pixels)
    assert answers["json"]["id"] == answers["binary"]["id"] == "42"


def test_over_grpc(
    server: RunningServer,
    python: Path,
    engine: Engine,
    pixels: Pixels,
    pictures: tuple[bytes, ...],
) -> None:
    answers = ask(python, "grpc", grpc=server.grpc_address, **asked(pixels, pictures))
    assert (answers["live"], answers["ready"], answers["model ready"]) == (True, True, True)
    for name, model in (("typed", "ride"), ("binary", "ride"), ("files", "ride_image")):
        assert_answer(answers[name], model, engine, pixels)


def test_in_front_of_triton(front: RunningServer, python: Path) -> None:
    assert ask(python, "health", url=front.url) == {"live": True, "ready": True}
