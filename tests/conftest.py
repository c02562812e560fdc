"""What tests of several packages share: the command, the bundled model, a server, made-up data."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import Tensor

from ride import main
from tests.checkout import ROOT
from tests.running.server import RunningServer, running_server
from tests.scheduling import TOGETHER, FolderScheduling, folder_or_module
from tests.short_networks import shortened

settings.register_profile("tests", deadline=None)  # no test fails because a machine is busy
settings.load_profile("tests")

pytest_plugins = ["tests.fitted_run", "tests.pictures"]

CIFAR10_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a CUDA device are skipped where there is none; those in groups come first."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
    items.sort(key=lambda item: folder_or_module(item.nodeid) not in TOGETHER)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """For `pytest -n 2`, as `make test` runs it."""
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The bundled model's."""
    return ROOT / "model_repository"


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server as anyone starts it."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running_server(repository, log) as running:
        yield running


@pytest.fixture(scope="session")
def run_ride() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ride", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def call_ride(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in this process, where everything is imported already: seconds less a call."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["ride", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        printed, status = capsys.readouterr(), ended.value.code or 0
        assert isinstance(status, int)
        return subprocess.CompletedProcess(command, status, printed.out, printed.err)

    return call


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def short_networks() -> Iterator[None]:
    """For modules whose tests are not about the networks: a step takes a quarter of the time."""
    with shortened():
        yield


@pytest.fixture(scope="session")
def coloured() -> Callable[[Tensor, int], Tensor]:
    """Makes uint8 images [N, size, size, 3] for labels [N]: a colour for each of 12 classes."""

    def make(labels: Tensor, size: int) -> Tensor:
        colours = torch.stack((labels % 2, labels // 2 % 2, labels // 4), dim=1) * 80 + 40
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(-15, 16, (len(labels), size, size, 3), generator=generator)
        return (colours.view(-1, 1, 1, 3) + noise).to(torch.uint8)

    return make


@pytest.fixture(scope="session")
def png_column() -> Callable[[Tensor], pa.StructArray]:
    """Encodes images [N, H, W, 3] as a Parquet column struct<bytes, path>, as published."""

    def encode(images: Tensor) -> pa.StructArray:
        rows = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image.numpy()).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array(rows, struct)
        assert isinstance(column, pa.StructArray)
        return column

    return encode


@pytest.fixture(scope="session")
def cifar10_folder(
    tmp_path_factory: pytest.TempPathFactory,
    coloured: Callable[[Tensor, int], Tensor],
    png_column: Callable[[Tensor], pa.StructArray],
) -> Path:
    """A data folder for `ride train --preset cifar10-lt`: 8 training images a class."""
    folder = tmp_path_factory.mktemp("cifar10")
    for split, each in (("train", 8), ("test", 3)):
        labels = torch.arange(10).repeat(each)
        columns = {"img": png_column(coloured(labels, 32)), "label": labels.numpy()}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    (folder / "classes.txt").write_text("\n".join(CIFAR10_NAMES) + "\n")
    return folder
