"""`grpc.health.v1` says of the server and of each model what the protocol's own calls say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.grpc.health import MOST_WATCHERS
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until

TIMEOUT_S = 30
LOADED = ("", "inference.GRPCInferenceService", "ride", "ride_image", "stage_1")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def explicit(repository: Path, tmp_path: Path) -> Iterator[RunningServer]:
    flags = ["--model-control=explicit"]
    with running_server(repository, tmp_path / "log.txt", flags) as server:
        yield server


@pytest.fixture
def health(explicit: RunningServer) -> Iterator[Any]:
    with grpc.insecure_channel(explicit.grpc_address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def asked(service: str) -> Any:
    return health_pb2.HealthCheckRequest(service=service)


def status(health: Any, service: str) -> int:
    return int(health.Check(asked(service), timeout=TIMEOUT_S).status)


class Watch:
    """What a stream of the health service tells, as it comes."""

    def __init__(self, health: Any, service: str) -> None:
        self.call = health.Watch(asked(service), timeout=TIMEOUT_S)

    def next(self) -> int:
        return int(next(self.call).status)


def test_health_follows_the_models(explicit: RunningServer, health: Any) -> None:
    assert {status(health, service) for service in LOADED} == {SERVING}
    assert explicit.post("/v2/repository/models/ride/unload").is_success
    assert explicit.get("/v2/health/ready").status_code == 503
    assert {status(health, service) for service in LOADED[:4]} == {NOT_SERVING}
    assert explicit.post("/v2/repository/models/ride/load").is_success
    assert {status(health, service) for service in LOADED} == {SERVING}


def test_an_unknown_service_is_not_found(health: Any) -> None:
    with pytest.raises(grpc.RpcError, match="no model 'resnet'") as caught:
        status(health, "resnet")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert Watch(health, "resnet").next() == UNKNOWN


def test_those_who_watch_are_told(explicit: RunningServer, health: Any) -> None:
    """Each of several of one service, when another one has left as well."""
    watches = [Watch(health, service) for service in ("", "ride", "ride", "ride")]
    assert [watch.next() for watch in watches] == [SERVING] * 4
    watches.pop().call.cancel()
    for _ in range(2):
        assert explicit.post("/v2/repository/models/ride/unload").is_success
        assert [watch.next() for watch in watches] == [NOT_SERVING] * 3
        assert explicit.post("/v2/repository/models/ride/load").is_success
        assert [watch.next() for watch in watches] == [SERVING] * 3


def test_one_who_watches_is_told_of_the_end_and_does_not_delay_it(
    explicit: RunningServer, health: Any
) -> None:
    watch = Watch(health, "ride")
    assert watch.next() == SERVING
    explicit.process.terminate()
    assert watch.next() == NOT_SERVING
    assert not list(watch.call)  # it ends as it should: nobody had to break it off
    assert explicit.process.wait(TIMEOUT_S) == 0


def test_those_who_watch_take_no_call_from_others(repository: Path, tmp_path: Path) -> None:
    flags = ["--max-waiting-images=2", "--max-images-per-request=2"]
    with (
        running_server(repository, tmp_path / "log.txt", flags) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watching = [Watch(health, "") for _ in range(MOST_WATCHERS)]
        assert {each.next() for each in watching} == {SERVING}
        with pytest.raises(grpc.RpcError) as refused:
            Watch(health, "").next()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status(health, "ride") == SERVING
        watching.pop().call.cancel()
        wait_until(lambda: watches(health))


def watches(health: Any) -> bool:
    try:
        return bool(Watch(health, "").next() == SERVING)
    except grpc.RpcError:
        return False
