"""What goes wrong inside Triton costs those it hits a clear error, and nobody else anything."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from serving.metrics.definitions import ALL_METRICS, Kind
from tests.running.load import asking
from tests.running.triton import RunningTriton
from tests.running.waiting import wait_until
from tests.triton.conftest import Client
from tests.triton.test_metrics import samples, settled, total

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


def large_picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@BY_GRPC
@pytest.mark.parametrize(
    ("model", "content", "parameters"),
    [
        ("ride", None, {"max_experts": 99}),
        ("ride_image", [b"no image"], {}),
        ("ride_image", [large_picture()], {}),
        ("ride_image", [b""] * 1_025, {}),
    ],
    ids=["InvalidRequest", "InvalidImage", "ImageTooLarge", "RequestTooLarge"],
)
def test_an_error_of_the_models_is_counted_once(
    triton: RunningTriton,
    client: Client,
    images: SampleImages,
    model: str,
    content: list[bytes] | None,
    parameters: dict[str, int],
) -> None:
    """By us. Triton's own statistics count an answer with an error as a success of a Python model.

    What Triton refuses before any model sees it, such as a wrong shape, is in neither.
    """
    before = total(settled(triton), "ride_requests_total")
    tensor = client.image(images.pixels[:1]) if content is None else client.files(content)
    with pytest.raises(InferenceServerException):
        client.infer(model, tensor, parameters=parameters)
    wait_until(lambda: total(triton.metrics(), "ride_requests_total") > before)
    assert total(settled(triton), "ride_requests_total") == before + 1


@BY_GRPC
@pytest.mark.usefixtures("whole")
def test_counters_survive_reloads(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    client.infer("ride", client.image(images.pixels[:64]))
    shown = [samples(settled(triton))]
    for change in (("load",), ("unload", "load")):
        for call in change:
            getattr(client.connection, f"{call}_model")("ride")
        wait_until(lambda: client.connection.is_model_ready("ride"))
        client.infer("ride", client.image(images.pixels[:64]))
        shown.append(samples(settled(triton)))
    for earlier, later in pairwise(shown):
        counters = {name for name in earlier if not is_gauge(name[0])}
        assert counters
        assert not {name for name in counters if later.get(name, -1) < earlier[name]}
        assert sum_of(later, "ride_images_total") == sum_of(earlier, "ride_images_total") + 64


def is_gauge(name: str) -> bool:
    return any(metric.name == name and metric.kind is Kind.GAUGE for metric in ALL_METRICS)


def sum_of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str) -> float:
    return sum(value for (its, _), value in found.items() if its == name)
