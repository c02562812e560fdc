"""The OpenAPI document is what is served: schemathesis asks for everything in it, over sockets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.serving.http.requests import INFER, infer_request

CONFIG = ROOT / "tests" / "serving" / "http" / "schemathesis.toml"
EXAMPLES = 3


def check(server: RunningServer, folder: Path, *flags: str) -> str:
    """What schemathesis prints, which must have found nothing."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    run = ["run", f"{server.url}/openapi.json", "--checks=all", f"--max-examples={EXAMPLES}"]
    phases = ["--phases=examples,coverage,fuzzing", "--seed=1", "--no-shrink", "--no-color"]
    command = [program, f"--config-file={CONFIG}", *run, *phases, "--request-timeout=60", *flags]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.process.poll() is None
    return done.stdout


@pytest.mark.slow
def test_the_embedded_servers(own_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    printed = check(own_server("--shared-memory"), tmp_path)
    assert "31 selected / 31 total" in printed


@pytest.mark.slow
def test_loading_and_unloading(own_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    server = own_server("--model-control=explicit")
    # Each load takes seconds.
    check(server, tmp_path, "--include-path-regex=^/v2/health|/index$|/unload$")
    assert server.post("/v2/repository/models/ride/unload").status_code == 200
    ready = server.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    loaded = server.post("/v2/repository/models/ride/load")
    assert (loaded.status_code, loaded.content) == (200, b"")


@pytest.mark.slow
def test_the_one_in_front_of_triton_behind_a_proxy(
    front_behind_proxy: RunningServer, tmp_path: Path
) -> None:
    printed = check(front_behind_proxy, tmp_path)
    assert f"Base URL:         {front_behind_proxy.url}/models/ride" in printed


def described(server: RunningServer, path: str, status: str) -> dict[str, Any]:
    """The schema of an answer, with what it refers to."""
    document = server.get("/openapi.json").json()
    content = document["paths"][path]["post"]["responses"][status]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return {**schema, "components": document["components"]}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"id": "42", "parameters": {"quality": "full"}},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]},
    ],
)
def test_tensors_are_answered_as_described(server: RunningServer, more: dict[str, Any]) -> None:
    """No generator finds data that fills a shape."""
    request, schema = {**infer_request(), **more}, infer_schema(server)
    jsonschema.validate(request, schema)
    answer = server.post(INFER, json=request)
    assert answer.status_code == 200, answer.text
    jsonschema.validate(answer.json(), described(server, "/v2/models/{model}/infer", "200"))


def infer_schema(server: RunningServer) -> dict[str, Any]:
    document = server.get("/openapi.json").json()
    body = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]
    schema: dict[str, Any] = body["content"]["application/json"]["schema"]
    return schema


def test_every_answer_says_how_it_fails(either: RunningServer) -> None:
    for path, operations in either.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            for status in ("4XX", "5XX"):
                content = operation["responses"][status]["content"]
                reference = content["application/json"]["schema"]["$ref"]
                assert reference == "#/components/schemas/ErrorBody", path
