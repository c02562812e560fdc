"""What goes wrong inside Triton costs those it hits a clear error, and nobody else anything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from tests.running.load import asking
from tests.running.triton import RunningTriton
from tests.running.waiting import wait_until
from tests.triton.conftest import Client
from tests.triton.test_metrics import settled, total

BY_GRPC = pytest.mark.parametrize("client", ["grpc"], indirect=True)


@pytest.fixture
def whole(client: Client) -> Iterator[None]:
    """Every model is loaded again at the end."""
    yield
    for stage in (1, 2, 3):
        client.connection.load_model(f"stage_{stage}")
    wait_until(client.connection.is_server_ready)


@BY_GRPC
@pytest.mark.usefixtures("whole")
def test_an_expert_that_is_unloaded_fails_only_images_that_need_it(
    client: Client, images: SampleImages, engine: Engine
) -> None:
    used = engine.classify(images.pixels[:60], engine.rule()).experts_used
    outcomes: list[tuple[int, Any]] = []
    numbers = itertools.cycle(range(60))

    def ask() -> None:
        number = next(numbers)
        try:
            answer = client.infer("ride", client.image(images.pixels[number : number + 1]))
            outcomes.append((number, answer.as_numpy("experts_used")[0]))
        except InferenceServerException as error:
            outcomes.append((number, error))

    def failures() -> list[tuple[int, InferenceServerException]]:
        return [(n, error) for n, error in outcomes if isinstance(error, InferenceServerException)]

    def wait_for_more() -> None:
        seen = len(outcomes)
        wait_until(lambda: len(outcomes) >= seen + 60)

    with asking(ask, clients=8):
        wait_for_more()
        client.connection.unload_model("stage_2")
        wait_until(lambda: bool(failures()))
        wait_for_more()
        client.connection.load_model("stage_2")
        wait_for_more()
    failed = failures()
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
    one = client.infer("ride", client.image(images.pixels[:1]))
    assert one.as_numpy("experts_used").shape == (1,)
    wait_until(lambda: total(triton.metrics(), "ride_images_total") > before)
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
