"""Swapping, loading and unloading versions of a server that is answering all the while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from serving.model.repository import graph_path
from tests.model_versions import add_version
from tests.running.load import CLASSIFY, Load
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until

Pixels = NDArray[np.uint8]


@pytest.fixture
def polling(repository_copy: Path, tmp_path: Path) -> Iterator[RunningServer]:
    flags = ["--model-control=poll", "--poll-seconds=0.1"]
    with running_server(repository_copy, tmp_path / "log.txt", flags) as server:
        yield server


@pytest.fixture
def explicit(repository_copy: Path, tmp_path: Path) -> Iterator[RunningServer]:
    flags, log = ["--model-control=explicit"], tmp_path / "log.txt"
    # Of a version that can't be loaded the operator is told everything, with a traceback.
    with running_server(repository_copy, log, flags, telltale="Exception in ASGI") as server:
        yield server


def client_of(server: RunningServer, protocol: str) -> Any:
    if protocol == "http":
        return closing(tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")))
    return closing(tritonclient.grpc.InferenceServerClient(server.grpc_address))


def one_expert(manifest: dict[str, Any]) -> None:
    """A change that shows in every answer."""
    manifest["thresholds"] = [1.0] * len(manifest["thresholds"])


def version_of(server: RunningServer, picture: bytes) -> str:
    response = server.post("/v1/classify", content=picture)
    response.raise_for_status()
    version: str = response.json()["version"]
    return version


@contextmanager
def traffic(server: RunningServer, picture: bytes) -> Iterator[list[httpx.Response]]:
    """Four clients that never stop; at the end every one of their requests was answered."""
    with Load(server, f"{CLASSIFY}?threshold=0.0", clients=4, content=picture) as load:
        yield load.answers[200]
    assert set(load.answers) == {200}
    assert load.answers[200]


def test_a_new_version_takes_over_and_no_request_fails(
    polling: RunningServer, repository_copy: Path, pictures: tuple[bytes, ...]
) -> None:
    with traffic(polling, pictures[0]) as answers:
        wait_until(lambda: len(answers) > 20)
        add_version(repository_copy, 2)
        wait_until(lambda: answers[-1].json()["version"] == "2")
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 20)
    versions = [answer.json()["version"] for answer in answers]
    assert set(versions) == {"1", "2"}
    first = versions.index("2")
    # Those that had begun with version 1 were answered by it.
    assert versions[first:].count("1") <= 4
    assert polling.get("/v2/models/ride").json()["versions"] == ["2"]
    assert 'ride_model_info{model="ride",version="2"} 1.0' in polling.get("/metrics").text
    assert 'ride_model_info{model="ride",version="1"}' not in polling.get("/metrics").text


def test_a_new_version_answers_by_its_own_manifest(
    polling: RunningServer, repository_copy: Path, pictures: tuple[bytes, ...]
) -> None:
    add_version(repository_copy, 2, one_expert)
    wait_until(lambda: version_of(polling, pictures[0]) == "2")
    files = [("file", picture) for picture in pictures]
    results = polling.post("/v1/classify", files=files).json()["results"]
    assert {result["experts_used"] for result in results} == {1}


def test_a_damaged_version_is_left_alone_until_it_is_whole(
    polling: RunningServer, repository_copy: Path, pictures: tuple[bytes, ...]
) -> None:
    graph = repository_copy / graph_path("stage_2", 2)
    whole = (repository_copy / graph_path("stage_2", 1)).read_bytes()
    # The manifest comes last, so that the version is never seen whole before the damage is done.
    add_version(repository_copy, 2, lambda _: graph.write_bytes(whole[: len(whole) // 2]))

    def said() -> bool:
        states = polling.post("/v2/repository/index").json()
        return any("was altered" in state["reason"] for state in states)

    wait_until(said)
    assert version_of(polling, pictures[0]) == "1"
    time.sleep(0.5)
    assert polling.log.read_text().count("can't take up version 2") == 1
    graph.write_bytes(whole)
    wait_until(lambda: version_of(polling, pictures[0]) == "2")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritonclient_lists_loads_and_unloads(
    explicit: RunningServer, repository_copy: Path, protocol: str, pixels: Pixels
) -> None:
    module = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    tensor = module.InferInput("image", list(pixels[:1].shape), "UINT8")
    tensor.set_data_from_numpy(pixels[:1])

    def states() -> list[tuple[str, str, str]]:
        index = client.get_model_repository_index()
        models = index if protocol == "http" else index.models
        get = dict.__getitem__ if protocol == "http" else getattr
        return [(get(m, "name"), get(m, "version"), get(m, "state")) for m in models]

    with client_of(explicit, protocol) as client:
        assert states() == [("ride", "1", "READY"), ("ride_image", "1", "READY")]
        add_version(repository_copy, 2)
        client.load_model("ride")
        assert states() == [
            ("ride", "1", "UNAVAILABLE"),
            ("ride", "2", "READY"),
            ("ride_image", "1", "UNAVAILABLE"),
            ("ride_image", "2", "READY"),
        ]
        assert client.infer("ride", [tensor], model_version="2").as_numpy("experts_used").size == 1
        client.unload_model("ride_image")
        assert not client.is_model_ready("ride")
        assert not client.is_server_ready()
        assert client.is_server_live()
        assert {state for _, _, state in states()} == {"UNAVAILABLE"}
        with pytest.raises(InferenceServerException, match="unloaded; load it again"):
            client.infer("ride", [tensor])
        client.load_model("ride")
        assert client.is_server_ready()
        client.infer("ride", [tensor])
        with pytest.raises(InferenceServerException, match="there is no model 'resnet'"):
            client.load_model("resnet")
        with pytest.raises(InferenceServerException, match="no parameters"):
            client.load_model("ride", config="{}")
    assert explicit.get("/metrics").is_success


def test_loading_again_and_again_fails_no_request(
    explicit: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    with traffic(explicit, pictures[0]) as answers:
        for _ in range(5):
            assert explicit.post("/v2/repository/models/ride/load").is_success
        seen = len(answers)
        wait_until(lambda: len(answers) > seen)
    threads = Path(f"/proc/{explicit.process.pid}/task")
    if threads.is_dir():  # the workers of versions that were served before are gone
        names = [(task / "comm").read_text() for task in threads.iterdir()]
        assert sum(name.startswith("ride-worker") for name in names) <= 64
    assert explicit.get("/v2/health/ready").is_success


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_place(
    explicit: RunningServer, repository_copy: Path, pictures: tuple[bytes, ...]
) -> None:
    add_version(repository_copy, 2, lambda manifest: manifest.pop("class_names"))
    response = explicit.post("/v2/repository/models/ride/load")
    assert response.status_code == 500
    assert "class_names" in response.json()["error"]
    assert version_of(explicit, pictures[0]) == "1"


@pytest.mark.parametrize("what", ["load", "unload"])
def test_models_change_by_request_only_where_the_server_was_started_so(
    server: RunningServer, what: str
) -> None:
    response = server.post(f"/v2/repository/models/ride/{what}")
    assert response.status_code == 403
    assert "--model-control explicit" in response.json()["error"]
    with client_of(server, "grpc") as client:
        call = client.load_model if what == "load" else client.unload_model
        with pytest.raises(InferenceServerException, match="FAILED_PRECONDITION"):
            call("ride")


def test_the_index_can_leave_out_what_is_not_served(
    explicit: RunningServer, repository_copy: Path
) -> None:
    add_version(repository_copy, 2)
    every = explicit.post("/v2/repository/index").json()
    ready = explicit.post("/v2/repository/index", json={"ready": True}).json()
    assert [state["version"] for state in every] == ["1", "2", "1", "2"]
    assert [state["version"] for state in ready] == ["1", "1"]
    assert explicit.post("/v2/repository/index", json={"ready": None}).json() == every
    assert explicit.post("/v2/repository/index", json={"ready": "often"}).status_code == 400


def test_null_parameters_are_none(explicit: RunningServer) -> None:
    load = "/v2/repository/models/ride/load"
    assert explicit.post(load, json={"parameters": None}).is_success
    assert explicit.post(load, json={"parameters": {"config": "{}"}}).status_code == 400
