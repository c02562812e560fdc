"""Every class of error, over real sockets: one failure metric, and one failure of its model."""

from __future__ import annotations

import importlib
import io
import pkgutil
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

import serving
from serving import errors
from tests.model_versions import add_version
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from tests.serving.dataplane.shared_memory.clients import connected, module_of
from tests.serving.grpc.test_server import every_error

Kind = type[errors.RideError]
STRICT = (
    *("--max-body-mib=1", "--max-images-per-request=3", "--max-waiting-images=4"),
    *("--max-image-pixels=10000", "--body-timeout-s=1"),
)
SHARING = ("--shared-memory", "--model-control=explicit")
SUCCESS = {"200", "OK"}


@dataclass(frozen=True)
class Provocation:
    """What makes a server of these flags raise an error, by a client of tritonclient's.

    `model` is whose failure it is; None where no request to a model failed, but a call about the
    server, which Triton's statistics do not know either.
    """

    provoke: Callable[[Any], object]
    model: str | None
    flags: tuple[str, ...] = STRICT


def ask(client: Any, count: int = 1, **options: Any) -> None:
    tensor = module_of(client).InferInput("image", [count, 32, 32, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((count, 32, 32, 3), np.uint8))
    client.infer("ride", [tensor], **options)


def ask_for_file(client: Any, file: bytes) -> None:
    tensor = module_of(client).InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([file], dtype=np.object_))
    client.infer("ride_image", [tensor])


def ask_with_region(client: Any) -> None:
    tensor = module_of(client).InferInput("image", [1, 32, 32, 3], "UINT8")
    tensor.set_shared_memory("absent", 3072)
    client.infer("ride", [tensor])


def register_twice(client: Any) -> None:
    memory = Path("/dev/shm/ride_test_failures")
    memory.write_bytes(bytes(8))
    try:
        client.register_system_shared_memory("twice", f"/{memory.name}", 8)
        client.register_system_shared_memory("twice", f"/{memory.name}", 8)
    finally:
        client.unregister_system_shared_memory("twice")
        memory.unlink()


def large_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (200, 200)).save(file, "PNG")
    return file.getvalue()


PROVOKED: dict[Kind, Provocation] = {
    errors.InvalidRequest: Provocation(
        lambda client: ask(client, parameters={"max_experts": 99}), "ride"
    ),
    errors.InvalidImage: Provocation(lambda client: ask_for_file(client, b"no"), "ride_image"),
    errors.Unsupported: Provocation(ask_with_region, "ride"),
    errors.RequestTooLarge: Provocation(lambda client: ask(client, 4), "ride"),
    errors.ImageTooLarge: Provocation(
        lambda client: ask_for_file(client, large_picture()), "ride_image"
    ),
    errors.ModelNotFound: Provocation(lambda client: ask(client, model_version="9"), "ride"),
    errors.DeadlineExceeded: Provocation(lambda client: ask(client, timeout=1), "ride"),
    errors.ModelControlRefused: Provocation(lambda client: client.load_model("ride"), None),
    errors.RegionNotFound: Provocation(ask_with_region, "ride", SHARING),
    errors.RegionExists: Provocation(register_twice, None, SHARING),
    errors.ModelRepositoryError: Provocation(lambda c: c.load_model("ride"), None, SHARING),
}
ELSEWHERE: dict[Kind, str] = {
    errors.Overloaded: "below: how many of a crowd are refused is not known before",
    errors.UnsupportedEncoding: "below: gRPC's own libraries undo what compresses its messages",
    errors.RequestTimeout: "below: over gRPC a message is whole when it is handed over",
    errors.NoBackend: "in front of Triton only: tests/serving/triton/test_faults.py",
    errors.BackendFault: "in front of Triton only: tests/serving/triton/test_faults.py",
    errors.AuditError: "of `ride calibrate`, which serves nobody",
    errors.SettingsError: "of a server's start: nobody is there to be counted",
    errors.InferenceError: "the runtime would have to fail on a graph that has been tried out",
}


class Counted:
    """What of a server's counts has moved since."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._before = self._now()

    def _now(self) -> tuple[dict[str, float], dict[str, float]]:
        metrics = {
            name: value
            for name, value in self._server.samples().items()
            if name.startswith("ride_requests_total{")
            and name.partition('code="')[2].partition('"')[0] not in SUCCESS
        }
        models = self._server.get("/v2/models/stats").json()["model_stats"]
        return metrics, {each["name"]: each["inference_stats"]["fail"]["count"] for each in models}

    def moved(self) -> tuple[list[float], dict[str, float]]:
        """By how much each failure metric that has moved, and failures by model."""
        pairs = list(zip(self._before, self._now(), strict=True))
        metrics, failures = (
            {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name)}
            for before, now in pairs
        )
        return list(metrics.values()), failures

    def must_be(self, failed: int, model: str | None) -> None:
        """Exactly so many of one metric, and of this model, if of any."""
        wait_until(lambda: sum(self.moved()[0]) >= failed)  # it is counted after it is answered
        assert self.moved() == ([failed], {} if model is None else {model: failed})


@pytest.fixture(scope="module")
def strict(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("strict_counts") / "log.txt"
    with running_server(repository, log, STRICT) as running:
        yield running


@pytest.fixture(scope="module")
def sharing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Its repository has a version 2 that can't be loaded."""
    folder = tmp_path_factory.mktemp("sharing_counts")
    copy = Path(shutil.copytree(repository, folder / "repository"))
    # The operator is told everything of what can't be loaded, with a traceback.
    with running_server(copy, folder / "log.txt", SHARING, telltale="Exception in ASGI") as running:
        add_version(copy, 2, lambda manifest: manifest.pop("class_names"))
        yield running


@pytest.fixture(params=["http", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_error_is_provoked_or_said_to_be_elsewhere() -> None:
    for module in pkgutil.walk_packages(serving.__path__, "serving."):
        if not module.name.startswith("serving.in_triton"):  # in Triton only
            importlib.import_module(module.name)
    assert PROVOKED.keys() | ELSEWHERE.keys() == every_error()
    assert not PROVOKED.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("kind", PROVOKED, ids=lambda kind: kind.__name__)
def test_an_error_is_counted_once(
    strict: RunningServer, sharing: RunningServer, transport: str, kind: Kind
) -> None:
    provocation = PROVOKED[kind]
    server = sharing if provocation.flags is SHARING else strict
    with connected(server, transport) as client:
        counted = Counted(server)
        with pytest.raises(InferenceServerException):
            provocation.provoke(client)
    counted.must_be(1, provocation.model)


def test_of_a_crowd_each_that_is_refused_is_counted_once(
    strict: RunningServer, transport: str
) -> None:
    def refused(_: int) -> bool:
        with connected(strict, transport) as client:
            try:
                ask(client, 3, parameters={"threshold": 0.0})
            except InferenceServerException:
                return True
        return False

    counted, failed = Counted(strict), 0
    while not failed:
        with ThreadPoolExecutor(4) as crowd:  # gRPC itself refuses the fifth call at a time
            failed += sum(crowd.map(refused, range(40)))
    counted.must_be(failed, "ride")


@pytest.mark.parametrize("query", ["max_experts=99", "quality=best", "top_k=0", "speed=9"])
def test_a_wrong_wish_for_an_image_is_counted_once(
    strict: RunningServer, pictures: tuple[bytes, ...], query: str
) -> None:
    counted = Counted(strict)
    assert strict.post(f"/v1/classify?{query}", content=pictures[0]).status_code == 400
    counted.must_be(1, "ride_image")


@pytest.mark.parametrize(
    ("status", "request_of"),
    [
        (415, {"content": b"x", "headers": {"Content-Encoding": "br"}}),
        (413, {"content": bytes(2**20 + 1)}),
        (400, {"content": b"{"}),
    ],
    ids=["415", "413", "400"],
)
def test_a_body_that_is_refused_is_counted_once(
    strict: RunningServer, status: int, request_of: dict[str, Any]
) -> None:
    counted = Counted(strict)
    assert strict.post("/v2/models/ride/infer", **request_of).status_code == status
    counted.must_be(1, "ride")


BEGUN = b"POST /v2/models/ride/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"


def test_a_body_that_comes_too_slowly_is_counted_once(strict: RunningServer) -> None:
    counted = Counted(strict)
    with strict.connect() as connection:
        connection.sendall(BEGUN)
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    counted.must_be(1, "ride")


def test_one_who_hangs_up_is_counted_once(strict: RunningServer) -> None:
    counted = Counted(strict)
    with strict.connect() as connection:
        connection.sendall(BEGUN)
        connection.shutdown(socket.SHUT_RDWR)
    counted.must_be(1, "ride")


def test_a_model_that_is_not_there_has_no_failures(strict: RunningServer, transport: str) -> None:
    with connected(strict, transport) as client:
        tensor = module_of(client).InferInput("image", [1], "UINT8")
        tensor.set_data_from_numpy(np.zeros(1, np.uint8))
        counted = Counted(strict)
        with pytest.raises(InferenceServerException, match="no model 'resnet'"):
            client.infer("resnet", [tensor])
    counted.must_be(1, None)


def test_an_answer_that_finds_no_room_is_no_success(sharing: RunningServer) -> None:
    """It fails after all that it cost, where it would be put into shared memory."""
    memory = Path("/dev/shm/ride_test_small")
    memory.write_bytes(bytes(3072))
    with connected(sharing, "http") as client:
        client.register_system_shared_memory("small", f"/{memory.name}", 3072)
        before, counted = successes(sharing), Counted(sharing)
        tensor = module_of(client).InferInput("image", [1, 32, 32, 3], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 32, 32, 3), np.uint8))
        output = module_of(client).InferRequestedOutput("probabilities")
        output.set_shared_memory("small", byte_size=8)
        with pytest.raises(InferenceServerException, match="takes 400 bytes"):
            client.infer("ride", [tensor], outputs=[output])
        client.unregister_system_shared_memory("small")
        memory.unlink()
    counted.must_be(1, "ride")
    assert successes(sharing) == before


def successes(server: RunningServer) -> list[int]:
    """Of `ride` and `ride_image`."""
    models = server.get("/v2/models/stats").json()["model_stats"][:2]
    return [each["inference_stats"]["success"]["count"] for each in models]


def test_counts_survive_reloads(repository: Path, tmp_path: Path) -> None:
    """Of the same version, and of one that was replaced meanwhile; no counter of any falls."""
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    with (
        running_server(copy, tmp_path / "log.txt", ["--model-control=explicit"]) as server,
        connected(server, "http") as client,
    ):
        shown: list[dict[str, float]] = []

        def use(version: str) -> list[dict[str, Any]]:
            ask(client, model_version=version)
            with pytest.raises(InferenceServerException):
                ask(client, parameters={"max_experts": 99})
            found = server.samples()
            shown.append({name: found[name] for name in found if "_total" in name})
            models: list[dict[str, Any]] = server.get("/v2/models/stats").json()["model_stats"]
            return models

        def counts(models: list[dict[str, Any]]) -> tuple[str, int, int, int]:
            stats = models[0]["inference_stats"]
            return (
                models[0]["version"],
                models[0]["inference_count"],
                stats["success"]["count"],
                stats["fail"]["count"],
            )

        assert counts(use("1")) == ("1", 1, 1, 1)
        client.load_model("ride")
        assert counts(use("1")) == ("1", 2, 2, 2)
        client.unload_model("ride")
        client.load_model("ride")
        assert counts(use("1")) == ("1", 3, 3, 3)
        add_version(copy, 2)
        client.load_model("ride")
        assert counts(use("2")) == ("2", 1, 1, 1)
        for folder in copy.glob("*/2"):
            shutil.rmtree(folder)
        client.load_model("ride")
        assert counts(use("1")) == ("1", 4, 4, 4)
        for earlier, later in pairwise(shown):
            fallen = {name for name in earlier if later.get(name, -1) < earlier[name]}
            assert not fallen
