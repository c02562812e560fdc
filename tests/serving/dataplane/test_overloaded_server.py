"""A server with far more to do than it can: cheaper answers, marked; then 503; never silence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.engine.graphs import Engine
from tests.running.load import CLASSIFY, Load, asking
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until

Pixels = NDArray[np.uint8]
CLIENTS = 24
FILES = 8
"""Images a request: enough that these clients bring more than one worker can do in time."""
OBJECTIVE_MS = 150
LOWEST = 2
"""The level of the cheapest gear."""
LOAD_S = 1.0


@pytest.fixture(scope="module")
def overloadable(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("overload") / "log.txt"
    flags = ["--workers=1", f"--latency-objective-ms={OBJECTIVE_MS}"]
    with running_server(repository, log, flags) as running:
        yield running


def flood(server: RunningServer, pictures: tuple[bytes, ...], query: str = "") -> Load:
    """Clients that never stop while the block runs."""
    files = [("file", picture) for picture in pictures[:FILES]]
    return Load(server, CLASSIFY + query, clients=CLIENTS, refused_pause_s=0, files=files)


def test_cost_goes_down_before_anybody_is_refused_and_back_up_when_it_is_calm(
    overloadable: RunningServer, engine: Engine, pictures: tuple[bytes, ...]
) -> None:
    before = overloadable.post(CLASSIFY, content=pictures[0]).json()
    assert before["degraded"] is False
    with flood(overloadable, pictures) as load:
        wait_until(lambda: overloadable.samples()["ride_degradation_level"] == LOWEST)
        under_way = len(load.answers[200]) + CLIENTS
        wait_until(lambda: len(load.answers[200]) > under_way)
    assert set(load.answers) <= {200, 503}
    degraded = [r for r in load.answers[200] if r.json()["degraded"]]
    assert degraded
    assert_fast(degraded[-1].json()["results"], engine)
    for refused in load.answers[503]:
        assert "busy" in refused.json()["error"]
    assert overloadable.samples()["ride_images_degraded_total"] == len(degraded) * FILES
    wait_until(lambda: overloadable.samples()["ride_degradation_level"] == 0)
    after = overloadable.post(CLASSIFY, content=pictures[0]).json()
    assert after == before


def assert_fast(results: list[dict[str, Any]], engine: Engine) -> None:
    """Images went on only where both the model's rule and the cheapest gear let them."""
    manifest = engine.manifest
    limits = np.maximum(manifest.thresholds, manifest.gears["fast"].thresholds)
    for result in results:
        scores, used = result["router_scores"], result["experts_used"]
        assert [score > limit for score, limit in zip(scores, limits, strict=False)] == [
            expert < used for expert in range(1, len(scores) + 1)
        ]


def test_a_request_that_is_cheap_already_is_not_marked(
    overloadable: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    with flood(overloadable, pictures, "?max_experts=1") as load:
        time.sleep(2 * LOAD_S)
    assert load.answers[200]
    assert not any(response.json()["degraded"] for response in load.answers[200])


def test_both_protocols_mark_degraded_answers_and_refuse_alike(
    overloadable: RunningServer, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    """Asked between floods too: within one, a client that waits its turn may never get it."""
    codes = set()

    def keep_busy() -> None:
        with flood(overloadable, pictures):
            time.sleep(LOAD_S)

    def marked_over_grpc() -> bool:
        codes.add(grpc_outcome(overloadable, pixels))
        return "degraded" in codes

    with asking(keep_busy):
        wait_until(lambda: marked_over_http(overloadable, pixels))
        wait_until(marked_over_grpc)
    assert codes <= {"degraded", "as asked", "RESOURCE_EXHAUSTED"}


def marked_over_http(server: RunningServer, pixels: Pixels) -> bool:
    tensor = tritonclient.http.InferInput("image", [1, *pixels.shape[1:]], "UINT8")
    tensor.set_data_from_numpy(pixels[:1])
    client = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))
    try:
        response = client.infer("ride", [tensor], parameters={"threshold": 0.0}).get_response()
        return bool(response.get("parameters") == {"degraded": True})
    except tritonclient.utils.InferenceServerException:
        return False
    finally:
        client.close()


def grpc_outcome(server: RunningServer, pixels: Pixels) -> str:
    request = service_pb2.ModelInferRequest(
        model_name="ride",
        inputs=[
            service_pb2.ModelInferRequest.InferInputTensor(
                name="image", datatype="UINT8", shape=[1, *pixels.shape[1:]]
            )
        ],
        raw_input_contents=[pixels[:1].tobytes()],
        parameters={"threshold": service_pb2.InferParameter(double_param=0.0)},
    )
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "degraded" if answer.parameters["degraded"].bool_param else "as asked"


def test_without_a_floor_answers_stay_as_asked(
    repository: Path, tmp_path: Path, pictures: tuple[bytes, ...]
) -> None:
    flags = ["--workers=1", f"--latency-objective-ms={OBJECTIVE_MS}", "--degrade-to=none"]
    with (
        running_server(repository, tmp_path / "log.txt", flags) as server,
        flood(server, pictures) as load,
    ):
        wait_until(lambda: bool(load.answers[200] and load.answers[503]))
        time.sleep(LOAD_S)
    assert not any(response.json()["degraded"] for response in load.answers[200])
