"""A front of a Triton whose answers a test writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.engine.graphs import Engine
from serving.model.manifest_json import load_manifest
from serving.model.repository import manifest_path
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from tests.serving.triton.scripted_triton import ScriptedTriton, scripted_triton

TIMEOUT_S = 3


@pytest.fixture(scope="package")
def triton(engine: Engine) -> Iterator[ScriptedTriton]:
    with scripted_triton(engine.manifest.num_classes, engine.manifest.num_experts) as triton:
        yield triton


@pytest.fixture(scope="package")
def manifests(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests without graphs: version 2 has other class names and takes larger images."""
    folder = tmp_path_factory.mktemp("manifests")
    content = json.loads(load_manifest(repository, 1).to_json())
    write_manifest(folder, 1, content)
    content["class_names"] = [f"new {name}" for name in content["class_names"]]
    content["image"] = {**content["image"], "height": 40, "width": 48, "resize_shorter_side": 56}
    write_manifest(folder, 2, content)
    return folder


def write_manifest(folder: Path, version: int, content: dict[str, Any]) -> None:
    graphs = {
        path.replace("/1/", f"/{version}/"): digest for path, digest in content["graphs"].items()
    }
    path = manifest_path(folder, version)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**content, "graphs": graphs}))


@pytest.fixture(scope="package")
def shared_front(
    manifests: Path, triton: ScriptedTriton, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("front") / "log.txt"
    flags = (
        f"--triton={triton.address}",
        "--max-waiting-images=500",
        f"--request-timeout-ms={1_000 * TIMEOUT_S}",
    )
    # gRPC leaves a traceback of its own where it can't read a message.
    with running_server(manifests, log, flags, telltale="/serving/") as running:
        yield running


@pytest.fixture
def front(shared_front: RunningServer, triton: ScriptedTriton) -> RunningServer:
    """With a Triton that is well again."""
    triton.infer, triton.versions, triton.ready = triton.good, ["1"], True
    wait_until(lambda: shared_front.get("/v2/health/ready").is_success)
    wait_until(
        lambda: 'ride_model_info{model="ride",version="1"}' in shared_front.get("/metrics").text
    )
    triton.requests.clear()
    return shared_front
