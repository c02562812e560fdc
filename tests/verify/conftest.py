"""Real images of the bundled model's kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine
from serving.model.repository import manifest_path
from tests.checkout import ROOT
from tests.running.server import RunningServer, running_server
from verify.decoding import decoded_batches
from verify.images import open_images

EXAMPLES = ROOT / "examples"
BUNDLED_RUN = ROOT / "checkpoints" / "cifar100-lt"

SMALL_FLAGS = ("--max-image-pixels=1000", "--max-waiting-images=2")
"""Fewer pixels than an image of CIFAR-100 has, and fewer images than are sent at a time."""


@pytest.fixture(scope="session")
def small_server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that takes less than this one's defaults: see `SMALL_FLAGS`."""
    log = tmp_path_factory.mktemp("small_server") / "log.txt"
    with running_server(repository, log, SMALL_FLAGS) as running:
        yield running


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without room has some the moment after."""
    monkeypatch.setattr("verify.server._PAUSES_S", (0.02,) * 200)


@pytest.fixture(scope="session")
def cifar_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 of CIFAR-100's test images, each of another class, as Parquet."""
    table = pq.read_table(ROOT / "tests" / "data" / "cifar100" / "test.parquet")
    path = tmp_path_factory.mktemp("images") / "test.parquet"
    pq.write_table(table.take(list(range(0, len(table), 20))), path)
    return path


@pytest.fixture(scope="session")
def pixels(cifar_images: Path, engine: Engine) -> NDArray[np.uint8]:
    """The same, uint8 [50, 32, 32, 3]."""
    (batch,) = decoded_batches(open_images(cifar_images), engine.manifest.image)
    decoded = [image.pixels for image in batch]
    return np.stack([each for each in decoded if isinstance(each, np.ndarray)])


@pytest.fixture
def altered(repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the bundled repository with other values in its manifest."""

    def copy(**values: Any) -> Path:
        target = Path(shutil.copytree(repository, tmp_path / "altered"))
        path = manifest_path(target, 1)
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return target

    return copy
