"""What goes wrong inside Triton costs those it hits a clear error, and nobody else anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from tests.running_triton import RunningTriton
from tests.triton.conftest import Client
from tests.triton.test_metrics import settled, total, wait_for

BY_GRPC = pytest.mark.parametrize("client", ["grpc"], indirect=True)
RECOVERY_S = 20.0


@pytest.fixture
def whole(client: Client) -> Iterator[None]:
    """Every model is loaded again at the end."""
    yield
    for stage in (1, 2, 3):
        client.connection.load_model(f"stage_{stage}")
    deadline = time.monotonic() + RECOVERY_S
    while not client.connection.is_server_ready() and time.monotonic() < deadline:
        time.sleep(0.05)


@BY_GRPC
@pytest.mark.usefixtures("whole")
def test_an_expert_that_is_unloaded_fails_only_images_that_need_it(
    client: Client, images: SampleImages, engine: Engine
) -> None:
    used = engine.classify(images.pixels[:60], engine.rule()).experts_used
    outcomes: list[tuple[int, Any]] = []
    stop = threading.Event()

    def ask(worker: int) -> None:
        number = worker
        while not stop.is_set():
            number = (number + 8) % 60
            try:
                answer = client.infer("ride", client.image(images.pixels[number : number + 1]))
                outcomes.append((number, answer.as_numpy("experts_used")[0]))
            except InferenceServerException as error:
                outcomes.append((number, error))

    with ThreadPoolExecutor(8) as threads:
        workers = [threads.submit(ask, worker) for worker in range(8)]
        try:
            time.sleep(0.5)
            client.connection.unload_model("stage_2")
            unloaded = len(outcomes)
            time.sleep(1)
            client.connection.load_model("stage_2")
            loaded = len(outcomes)
            time.sleep(1)
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    assert 0 < unloaded < loaded < len(outcomes), "no load all the way"
    failed = [
        (number, error) for number, error in outcomes if isinstance(error, InferenceServerException)
    ]
    assert failed, "nothing needed the second expert"
    for number, error in failed:
        assert used[number] > 1, "an image that stops after one expert failed"
        assert "stage_2 is not available; try again in a moment" in error.message()
        assert error.status() == "StatusCode.UNAVAILABLE"
    assert all(
        answer == used[n]
        for n, answer in outcomes
        if not isinstance(answer, InferenceServerException)
    )
    assert not any(isinstance(answer, InferenceServerException) for _, answer in outcomes[-16:]), (
        "no recovery"
    )


@BY_GRPC
def test_a_client_that_hangs_up_is_dropped(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    """Its images leave the queue, or stop before their next expert."""
    before = total(triton.metrics(), "ride_images_total")
    many = client.image(images.pixels[:1_000])
    waiting = [
        client.connection.async_infer(
            "ride", [many], lambda result, error: None, parameters={"threshold": 0.0}
        )
        for _ in range(6)
    ]
    for call in waiting:
        call.cancel()
    started = time.monotonic()
    one = client.infer("ride", client.image(images.pixels[:1]))
    assert one.as_numpy("experts_used").shape == (1,)
    assert time.monotonic() - started < RECOVERY_S
    wait_for(lambda: total(triton.metrics(), "ride_images_total") > before)
    assert total(triton.metrics(), "ride_images_total") - before < 6_000


@BY_GRPC
def test_a_request_whose_deadline_passes_is_dropped(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    """The call's own deadline, while others keep every instance busy."""
    many = client.image(images.pixels[:520])  # two are too many for one batch
    before = total(settled(triton), "ride_images_total")
    with ThreadPoolExecutor(4) as threads:
        busy = [
            threads.submit(client.infer, "ride", many, parameters={"threshold": 0.0})
            for _ in range(4)
        ]
        time.sleep(0.2)
        with pytest.raises(InferenceServerException) as error:
            client.infer("ride", many, client_timeout=0.2)
        assert "Deadline Exceeded" in error.value.message()
        for each in busy:
            assert each.result().as_numpy("experts_used").shape == (520,)
    assert total(settled(triton), "ride_images_total") - before == 4 * 520
