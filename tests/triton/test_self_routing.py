"""`ride_graph` in Triton: the engine's answers from one file, and nothing of ours in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from rich.console import Console
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from tests.checkout import ROOT
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer, running_server
from tests.running.triton import RunningTriton
from tests.triton.conftest import SELF_ROUTING_MODELS, Client
from tests.triton.test_answers import slices
from verify.request import VerificationRequest
from verify.session import verify_session

Expect = Callable[..., None]


@dataclass(frozen=True)
class _Flat:
    """An answer whose `experts_used` is [N], as the engine's: Triton knows no such shape."""

    answer: Any

    def as_numpy(self, name: str) -> Any:
        values = self.answer.as_numpy(name)
        if name != "experts_used":
            return values
        assert values.shape[1:] == (1,)
        return values[:, 0]


@pytest.fixture
def alone(graphs_alone: RunningTriton) -> Iterator[Client]:
    with closing(tritonclient.grpc.InferenceServerClient(graphs_alone.grpc_address)) as connection:
        yield Client(tritonclient.grpc, connection)


def rules(thresholds: list[list[float]], max_experts: list[int]) -> list[Any]:
    inputs = []
    for name, datatype, values in (
        ("thresholds", "FP32", np.array(thresholds, np.float32)),
        ("max_experts", "INT32", np.array(max_experts, np.int32)[:, np.newaxis]),
    ):
        tensor = tritonclient.grpc.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


def test_it_stands_beside_the_other_models(
    client: Client, images: SampleImages, expect: Expect
) -> None:
    for part in slices(40):
        answer = client.infer("ride_graph", client.image(images.pixels[part]))
        expect(_Flat(answer), images.pixels[part])


def test_batches_of_many_requests_change_no_answer(
    alone: Client, images: SampleImages, expect: Expect
) -> None:
    parts = slices(400)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(
            lambda part: alone.infer("ride_graph", alone.image(images.pixels[part])), parts
        )
        for part, answer in zip(parts, answers, strict=True):
            expect(_Flat(answer), images.pixels[part])


def test_requests_of_one_batch_have_their_own_wishes(
    alone: Client, images: SampleImages, expect: Expect
) -> None:
    wishes = [
        {"max_experts": most, "threshold": threshold}
        for most in (1, 2, 3)
        for threshold in (0.0, 0.1, 0.5)
    ] * 4

    def ask(wish: dict[str, Any]) -> Any:
        rule = rules([[wish["threshold"]] * 2] * 7, [wish["max_experts"]] * 7)
        inputs = [alone.image(images.pixels[:7]), *rule]
        return alone.connection.infer("ride_graph_rules", inputs)

    with ThreadPoolExecutor(12) as threads:
        for wish, answer in zip(wishes, threads.map(ask, wishes), strict=True):
            expect(_Flat(answer), images.pixels[:7], **wish)


def test_rows_of_one_request_have_their_own_wishes(
    alone: Client, images: SampleImages, engine: Engine
) -> None:
    wishes = [([0.0, 0.0], 1), ([0.0, 0.0], 2), ([0.0, 0.0], 3), ([1.0, 1.0], 3)]
    rule = rules([thresholds for thresholds, _ in wishes], [most for _, most in wishes])
    answer = alone.connection.infer("ride_graph_rules", [alone.image(images.pixels[:4]), *rule])
    assert answer.as_numpy("experts_used").tolist() == [[1], [2], [3], [1]]


def test_the_classification_extension_names_classes(
    alone: Client, images: SampleImages, engine: Engine
) -> None:
    output = tritonclient.grpc.InferRequestedOutput("probabilities", class_count=2)
    result = alone.infer("ride_graph", alone.image(images.pixels[:3]), outputs=[output])
    expected = engine.classify(images.pixels[:3], engine.rule()).probabilities.argmax(axis=1)
    best = [row[0].decode().split(":")[2] for row in result.as_numpy("probabilities")]
    assert best == [engine.manifest.class_names[label] for label in expected]


def test_a_wrong_request_costs_no_other_one(
    alone: Client, images: SampleImages, expect: Expect
) -> None:
    def ask(number: int) -> Any:
        pixels = images.pixels[number : number + 1]
        wrong = number % 4 == 0
        try:
            return alone.infer("ride_graph", alone.image(pixels[:, :16] if wrong else pixels))
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        for number, answer in enumerate(threads.map(ask, range(40))):
            if number % 4 == 0:
                assert "unexpected shape" in str(answer)
            else:
                expect(_Flat(answer), images.pixels[number : number + 1])


def test_ride_verify_asks_for_it(graphs_alone: RunningTriton, repository: Path) -> None:
    request = VerificationRequest(
        ROOT / "examples", repository, server=graphs_alone.grpc_address, models="ride_graph"
    )
    report = verify_session(request, Console(quiet=True))
    assert [agreement.engine for agreement in report.engines] == ["triton: ride_graph"]
    assert (report.images, report.differences) == (12, 0)


@pytest.fixture(scope="module", params=SELF_ROUTING_MODELS)
def front(
    request: pytest.FixtureRequest,
    repository: Path,
    graphs_alone: RunningTriton,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """`ride serve --triton` that asks for one of the graphs."""
    flags = [f"--triton={graphs_alone.grpc_address}", f"--triton-model={request.param}"]
    log = tmp_path_factory.mktemp("front") / "log.txt"
    with running_server(repository, log, flags) as running:
        yield running


def answers(server: RunningServer, images: SampleImages, query: str) -> Any:
    files = [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(images.files[:24])]
    return server.post(CLASSIFY + query, files=files)


def test_a_front_classifies_files_by_it_and_counts_experts(
    front: RunningServer, server: RunningServer, images: SampleImages
) -> None:
    ours = answers(front, images, "").json()["results"]
    theirs = answers(server, images, "").json()["results"]
    for one, other in zip(ours, theirs, strict=True):
        assert one["experts_used"] == other["experts_used"]
        assert one["router_scores"] == pytest.approx(other["router_scores"], abs=1e-5)
        assert [each["label"] for each in one["labels"]] == [
            each["label"] for each in other["labels"]
        ]
    experts = sum(each["experts_used"] for each in ours)
    assert f"ride_experts_per_image_sum {experts:.1f}" in front.get("/metrics").text


@pytest.mark.parametrize("front", ["ride_graph_rules"], indirect=True)
def test_a_front_hands_on_what_a_request_wishes(
    front: RunningServer, server: RunningServer, images: SampleImages
) -> None:
    for query in ("?max_experts=1", "?threshold=0.9", "?quality=full", "?quality=fast"):
        ours, theirs = (answers(each, images, query).json()["results"] for each in (front, server))
        for one, other in zip(ours, theirs, strict=True):
            assert one["experts_used"] == other["experts_used"]
    refused = answers(front, images, "?max_experts=9")
    assert refused.status_code == 400
    assert refused.json() == {"error": "max_experts must lie between 1 and 3, not 9"}


@pytest.mark.parametrize("front", ["ride_graph"], indirect=True)
def test_a_front_refuses_what_it_can_not_hand_on(
    front: RunningServer, images: SampleImages
) -> None:
    assert answers(front, images, "?max_experts=3").status_code == 200  # the model's own rule
    refused = answers(front, images, "?max_experts=1")
    assert refused.status_code == 400
    assert "has the model's own rule only" in refused.json()["error"]
