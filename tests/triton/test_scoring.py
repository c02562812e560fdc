"""`ride score --server`: a server's answers are the rows that this process gives."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from benchmarks.ports import free_ports
from scoring.errors import ScoringError, ServerError
from scoring.request import KeptFields, Routing, ScoringRequest
from scoring.session import score_session
from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.running.triton import RunningTriton
from tests.scoring.conftest import rows_of

IMAGES = ROOT / "tests" / "data" / "cifar100" / "test.parquet"


def scored(repository: Path, output: Path, server: str | None, routing: Routing) -> pa.Table:
    request = ScoringRequest(
        (str(IMAGES),), output, repository, KeptFields(2), routing=routing, server=server
    )
    score_session(request, Console(quiet=True))
    return rows_of(output)


def require_same(found: pa.Table, expected: pa.Table) -> None:
    for column in ("id", "label", "experts_used"):
        assert found[column].equals(expected[column]), column
    pairs = zip(found["probability"].to_pylist(), expected["probability"].to_pylist(), strict=True)
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in pairs)


@pytest.mark.parametrize(
    "routing", [Routing(), Routing(quality="fast"), Routing(max_experts=2)], ids=str
)
def test_triton_scores_by_its_graphs(
    graphs_alone: RunningTriton, repository: Path, tmp_path: Path, routing: Routing
) -> None:
    expected = scored(repository, tmp_path / "here", None, routing)
    found = scored(repository, tmp_path / "there", graphs_alone.grpc_address, routing)
    require_same(found, expected)


def test_ride_serve_scores_by_its_own_rule(
    server: RunningServer, repository: Path, tmp_path: Path
) -> None:
    expected = scored(repository, tmp_path / "here", None, Routing())
    require_same(scored(repository, tmp_path / "there", server.grpc_address, Routing()), expected)
    with pytest.raises(ServerError, match="serves no ride_graph_rules in version 1, which is that"):
        scored(repository, tmp_path / "fast", server.grpc_address, Routing(quality="fast"))


def test_without_a_server_nothing_is_scored(repository: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ServerError, match=f"answers over gRPC at 127.0.0.1:{port}: is it running"):
        scored(repository, tmp_path / "out", f"127.0.0.1:{port}", Routing())
    assert not list((tmp_path / "out" / "parts").glob("*"))


@pytest.mark.parametrize("address", ["localhost", "http://localhost:8001"])
def test_what_is_no_address_is_refused(repository: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(ScoringError, match="--server takes HOST:PORT"):
        scored(repository, tmp_path / "out", address, Routing())


def test_a_server_gives_no_embeddings(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="a server answers no embeddings"):
        ScoringRequest(
            (str(IMAGES),), tmp_path, repository, KeptFields(embeddings=True), server="a:1"
        )
