"""`ride score --server` lives through what servers go through; tests/triton asks real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from rich.console import Console

from scoring import server_inference
from scoring.errors import ServerError
from scoring.request import KeptFields, ScoringRequest
from scoring.session import score_session
from serving.engine.graphs import Engine
from tests.scoring.conftest import rows_of
from tests.serving.triton.scripted_triton import ScriptedTriton, scripted_triton


@pytest.fixture
def triton(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTriton]:
    monkeypatch.setattr(server_inference, "_PAUSES_S", (0.01, 0.01))
    with scripted_triton(engine.manifest.num_classes, engine.manifest.num_experts) as triton:
        yield triton


def scored(server: ScriptedTriton, repository: Path, output: Path, images: Path) -> pa.Table:
    request = ScoringRequest(
        (str(images),), output, repository, KeptFields(1), workers=1, server=server.address
    )
    score_session(request, Console(quiet=True))
    return rows_of(output)


def test_a_batch_is_sent_again_while_a_server_is_away(
    triton: ScriptedTriton, repository: Path, tmp_path: Path, picture_folder: Path
) -> None:
    away = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])

    def infer(request: Any, context: Any) -> Any:
        if (code := next(away, None)) is not None:
            context.abort(code, "not now")
        return triton.good(request, context)

    triton.infer = infer
    table = scored(triton, repository, tmp_path / "out", picture_folder)
    assert len(table) == 48
    assert {request.model_name for request in triton.requests} == {"ride_graph"}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (grpc.StatusCode.UNAVAILABLE, "is gone or has too much to do .*; the same command goes on"),
        (grpc.StatusCode.INTERNAL, "failed: the Triton server failed on this request"),
    ],
)
def test_a_server_that_stays_away_ends_the_run_and_the_same_command_goes_on(
    triton: ScriptedTriton,
    repository: Path,
    tmp_path: Path,
    picture_folder: Path,
    code: grpc.StatusCode,
    sentence: str,
) -> None:
    triton.infer = lambda _, context: context.abort(code, "no")
    with pytest.raises(ServerError, match=sentence):
        scored(triton, repository, tmp_path / "out", picture_folder)
    triton.infer = triton.good
    assert len(scored(triton, repository, tmp_path / "out", picture_folder)) == 48


def test_an_answer_that_does_not_fit_is_no_row(
    triton: ScriptedTriton, repository: Path, tmp_path: Path, picture_folder: Path
) -> None:
    triton.infer = lambda request, _: triton.answer(
        triton.tensors(request.inputs[0].shape[0]), version="7"
    )
    with pytest.raises(ServerError, match="answered with version '7' of the model"):
        scored(triton, repository, tmp_path / "out", picture_folder)


def test_another_version_is_not_asked(
    triton: ScriptedTriton, repository: Path, tmp_path: Path, picture_folder: Path
) -> None:
    triton.versions = []
    with pytest.raises(ServerError, match="serves no ride_graph or ride in version 1"):
        scored(triton, repository, tmp_path / "out", picture_folder)
