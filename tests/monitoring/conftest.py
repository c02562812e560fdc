"""A Prometheus that watches a server under load."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc

from benchmarks.images import SampleImages, read_images
from monitoring.grafana.dashboard import FILE
from tests.running.load import CLASSIFY, asking
from tests.running.prometheus import (
    WINDOW,
    RunningPrometheus,
    find,
    running_prometheus,
)
from tests.running.server import RunningServer, running_server

NO_PROMETHEUS = "there is no Prometheus here: install it, or run `make prometheus` on Debian"


@dataclass(frozen=True)
class PanelQuery:
    """An expression of the dashboard, as Grafana sends it when all variables are chosen."""

    panel: str
    expression: str

    @classmethod
    def all(cls, job: str) -> list[PanelQuery]:
        """Every query of the committed dashboard."""
        panels = [panel for panel in json.loads(FILE.read_text())["panels"] if "targets" in panel]
        return [
            cls(panel["title"], _with_variables(target["expr"], job))
            for panel in panels
            for target in panel["targets"]
        ]


def _with_variables(expression: str, job: str) -> str:
    chosen = {
        "$job": job,
        "$instance": ".*",
        "$version": ".*",
        "$router": "1",
        "$__rate_interval": WINDOW,
        "$__range": "20s",
    }
    for variable, value in chosen.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


@pytest.fixture(scope="session")
def images() -> SampleImages:
    """A thousand of CIFAR-100's test images."""
    return read_images()


@pytest.fixture(scope="package")
def watched_server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that audits all that it answers."""
    log = tmp_path_factory.mktemp("watched_server") / "log.txt"
    with running_server(repository, log, ["--audit-share=1"]) as running:
        yield running


@pytest.fixture(scope="package")
def prometheus(
    watched_server: RunningServer, images: SampleImages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPrometheus]:
    """While it is used, clients of both protocols go on asking."""
    if find("prometheus") is None:
        pytest.skip(NO_PROMETHEUS)
    host, port = watched_server.address
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        running_prometheus(folder, {"ride": f"{host}:{port}"}) as running,
        _load(watched_server, images),
    ):
        yield running


@contextmanager
def _load(server: RunningServer, images: SampleImages) -> Iterator[None]:
    """Three requests at a time with pauses between, in which the audit gets its turn."""
    firsts = itertools.cycle(range(0, 1000, 5))
    with tritonclient.grpc.InferenceServerClient(server.grpc_address) as by_grpc:

        def ask() -> None:
            first = next(firsts)
            files = [("file", file) for file in images.files[first : first + 4]]
            _check(server.post(CLASSIFY, files=files), 200)
            _check(server.post(CLASSIFY, content=b"no image"), 400)
            by_grpc.infer("ride", [_tensor(images.pixels[first + 4 : first + 5])])

        with asking(ask, pause_s=0.1):
            yield


def _check(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text


def _tensor(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tritonclient.grpc.InferInput:
    tensor = tritonclient.grpc.InferInput("image", pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels)
    return tensor
