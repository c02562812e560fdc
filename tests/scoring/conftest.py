"""Pictures in every form that can be scored, and what the engine says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from rich.console import Console

from scoring.request import KeptFields, ScoringRequest
from scoring.session import score_session
from serving.engine.graphs import Engine
from serving.model.routing import Routed

RAY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in (
        "DeprecationWarning",
        "FutureWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]
"""Marks for tests with Ray, whose settings warn of themselves, and which leaves sockets open."""


@pytest.fixture(scope="session")
def expected(engine: Engine, pixels: NDArray[np.uint8]) -> Routed:
    """What the engine answers for the 48 pictures in one batch."""
    return engine.classify(pixels, engine.rule())


@pytest.fixture
def picture_folder(tmp_path: Path, pictures: tuple[bytes, ...]) -> Path:
    """The pictures as files whose names sort as they are numbered."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        (folder / f"{i:02}.png").write_bytes(picture)
    return folder


@pytest.fixture
def picture_parquet(tmp_path: Path, pictures: tuple[bytes, ...]) -> Path:
    """The pictures as Parquet of five row groups, with labels that are all their number."""
    path = tmp_path / "pictures.parquet"
    table = pa.table({"photo": pa.array(pictures), "class": list(range(len(pictures)))})
    pq.write_table(table, path, row_group_size=10)
    return path


@pytest.fixture
def score(repository: Path, tmp_path: Path) -> Callable[..., pa.Table]:
    """Scores inputs into a folder, `tmp_path / "out"` unless it is named; gives all its rows."""

    def run(*inputs: object, output: Path | None = None, **settings: Any) -> pa.Table:
        folder = output or tmp_path / "out"
        settings = {"kept": KeptFields(5), "workers": 2, **settings}
        request = ScoringRequest(tuple(map(str, inputs)), folder, repository, **settings)
        score_session(request, Console(quiet=True))
        return rows_of(folder)

    return run


@pytest.fixture(scope="session")
def bucket(pictures: tuple[bytes, ...]) -> Iterator[str]:
    """A bucket in a real server that speaks S3, with the pictures as files and as Parquet."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        system = fsspec.filesystem("s3")
        system.mkdir("my-bucket")
        for i, picture in enumerate(pictures):
            system.pipe(f"my-bucket/pictures/{i:02}.png", picture)
        with system.open("my-bucket/pictures.parquet", "wb") as file:
            pq.write_table(pa.table({"photo": pa.array(pictures)}), file, row_group_size=10)
        yield "s3://my-bucket"
    server.stop()


def rows_of(folder: Path) -> pa.Table:
    """All rows in the order of the inputs."""
    parts = sorted(folder.glob("parts/part-*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts])


def as_layout_1(folder: Path) -> None:
    """Make a run what it was before parts had a folder of their own."""
    for part in (folder / "parts").iterdir():
        part.rename(folder / part.name)
    (folder / "parts").rmdir()
    (folder / "_inputs.arrow").unlink(missing_ok=True)
    run = json.loads((folder / "_run.json").read_bytes())
    del run["layout"]
    (folder / "_run.json").write_text(json.dumps(run))


def assert_answers(table: pa.Table, expected: Routed) -> None:
    """Each row has its answer, to the last bit."""
    best = np.argsort(-expected.probabilities, axis=1, kind="stable")[:, :5]
    probabilities = np.take_along_axis(expected.probabilities, best, axis=1)
    assert table["top_indices"].to_pylist() == best.tolist()
    assert table["top_probabilities"].to_pylist() == probabilities.tolist()
    assert table["experts_used"].to_pylist() == expected.experts_used.tolist()
    scores = [
        [None if np.isnan(score) else score for score in row]
        for row in expected.router_scores.tolist()
    ]
    assert table["router_scores"].to_pylist() == scores
    assert table["error"].null_count == len(table)
