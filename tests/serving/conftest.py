"""Servers with strict limits and in front of Triton, and a threshold between the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine
from tests.running.server import RunningServer, running_server
from tests.serving.triton.scripted_triton import front_of_good_triton

STRICT_FLAGS = (
    "--max-body-mib=1",
    "--max-images-per-request=3",
    "--max-waiting-images=4",
    "--max-image-pixels=10000000",
    "--body-timeout-s=1",
)


@pytest.fixture(scope="session")
def middle_threshold(engine: Engine, pixels: NDArray[np.uint8]) -> float:
    """A threshold far from every score, with some pictures above and some below."""
    first = engine.classify(pixels, engine.rule(threshold=0.0)).router_scores[:, 0]
    scores = np.sort(first)[len(first) // 4 : -len(first) // 4]
    widest = int(np.diff(scores).argmax())
    return float(scores[widest : widest + 2].mean())


@pytest.fixture(scope="session")
def strict_server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with limits that tests can reach: see `STRICT_FLAGS`."""
    log = tmp_path_factory.mktemp("strict_server") / "log.txt"
    with running_server(repository, log, STRICT_FLAGS) as running:
        yield running


@pytest.fixture(scope="session")
def front(
    engine: Engine, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server in front of a Triton that always answers well."""
    log = tmp_path_factory.mktemp("front") / "log.txt"
    with front_of_good_triton(engine.manifest, repository, log) as running:
        yield running
