"""The bundled model's engine and pictures for it: fixtures, loaded by tests/conftest.py."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.engine.graphs import Engine, load_engine


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
