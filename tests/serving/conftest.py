"""The bundled model's engine, pictures for it, and a server with strict limits."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.engine.graphs import Engine, load_engine
from tests.running_server import RunningServer, running_server

STRICT_FLAGS = (
    "--max-body-mib=1",
    "--max-images-per-request=3",
    "--max-waiting-images=4",
    "--max-image-pixels=10000000",
    "--body-timeout-s=1",
)


@pytest.fixture
def repository_copy(repository: Path, tmp_path: Path) -> Path:
    """A repository that a test may damage."""
    return Path(shutil.copytree(repository, tmp_path / "repository"))


@pytest.fixture(scope="session")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


@pytest.fixture(scope="session")
def pixels(engine: Engine) -> NDArray[np.uint8]:
    """48 pictures at the model's size, from flat colours to noise: uint8 [48, H, W, 3]."""
    spec, generator = engine.manifest.image, np.random.default_rng(0)
    coarse = generator.integers(0, 256, (48, 4, 4, 3))
    rows, columns = (np.arange(size) * 4 // size for size in (spec.height, spec.width))
    blocks = coarse[:, rows][:, :, columns]
    noise = generator.integers(0, 256, blocks.shape)
    share = generator.random((48, 1, 1, 1))
    return np.asarray(blocks * share + noise * (1 - share), dtype=np.uint8)


@pytest.fixture(scope="session")
def png() -> Callable[[NDArray[np.uint8]], bytes]:
    """Encodes pixels [H, W, 3] without loss."""

    def encode(image: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()

    return encode


class _Pictures(tuple[bytes, ...]):
    __slots__ = ()

    def __repr__(self) -> str:
        return f"{len(self)} pictures"  # what a property test that fails can print


@pytest.fixture(scope="session")
def pictures(
    pixels: NDArray[np.uint8], png: Callable[[NDArray[np.uint8]], bytes]
) -> tuple[bytes, ...]:
    """The pictures of `pixels` as PNG files, which decode to those very pixels."""
    return _Pictures(png(image) for image in pixels)


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
    assert "Traceback" not in log.read_text(), log.read_text()
