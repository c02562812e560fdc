"""Writers of tiny images and files of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training import data_folders


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """An image of one grey as a file's bytes."""
    return data_folders.encode


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """Writes such an image, and the folders above it."""
    return data_folders.write_image


@pytest.fixture(scope="session")
def write_parquet() -> Callable[..., Path]:
    """Writes a Parquet file with an image for each label, whose grey is its row's number."""
    return data_folders.write_parquet
