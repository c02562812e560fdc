"""The page and its verdicts: all of it follows from the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.goals import CPU_OVER_RAW, goals
from benchmarks.markdown import table
from benchmarks.page import page
from benchmarks.store import Provenance, Section, Store

HERE = Provenance(
    "2030-01-02", "2 cores of X", "abc123", "ride bench --quick", {"python": "3.11"}, 0.1
)


def raw(work: str, threads: int, cpu_ms: float) -> dict[str, Any]:
    return {
        "work": work,
        "threads": threads,
        "images": 1000,
        "images_per_s": 1e3 * threads / cpu_ms,
        "cpu_ms_per_image": cpu_ms,
        "mean_experts": 1.5,
        "p50_ms": cpu_ms,
        "p99_ms": 2 * cpu_ms,
        "pause_ms": 0.0,
    }


def point(clients: int, cpu_ms: float, rate: float = 500) -> dict[str, Any]:
    return {
        "clients": clients,
        "images": 1000,
        "images_per_s": rate,
        "mean_ms": 2.0,
        "p50_ms": 2.0,
        "p99_ms": 4.0,
        "cpu_ms_per_image": cpu_ms,
        "resident_mib": 100.0,
        "mean_experts": 1.5,
        "bare_cpu_ms": 2.0,
        "bare_p50_ms": 1.5,
    }


def ours(*points: dict[str, Any]) -> dict[str, Any]:
    return {"ride-grpc": {"title": "this server, gRPC", "ready_s": 1.0, "points": list(points)}}


def rival(**fields: Any) -> dict[str, Any]:
    about = {"title": "Triton", "settings": "as is", "requirements": ["x==1"], "routed": True}
    return {**about, **fields}


def store_of(folder: Path, **sections: dict[str, Any]) -> Store:
    store = Store(folder / "benchmarks.json")
    for name, data in sections.items():
        store.put(name.replace("_", "-"), Section(HERE, 12.0, data))
    return store


def test_a_cell_cannot_break_the_table() -> None:
    assert table(["a", "b"], [["x|y", 1]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |\n"


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_goal_is_reached_up_to_its_bound(factor: float) -> None:
    bare = {"results": [raw("routed", 1, 9.0), raw("routed", 2, 2.0)]}
    found = goals(
        {"raw": bare, "this-server": ours(point(64, 2.0 * CPU_OVER_RAW["ride-grpc"] * factor))}
    )
    cpu = next(goal for goal in found if goal.what.startswith("processor time an image over"))
    assert cpu.figure == f"{CPU_OVER_RAW['ride-grpc'] * factor:.2f}"
    assert cpu.reached is (factor < 1)


def test_a_goal_against_a_server_that_was_not_run_is_not_there() -> None:
    sections = {"this-server": ours(point(16, 2.0, rate=600))}
    with_rival = {**sections, "triton-bls": rival(points=[point(16, 3.0, rate=400)], ready_s=2.0)}
    without = {**sections, "triton-bls": rival(not_run="no wheel")}
    assert [goal.reached for goal in goals(with_rival) if "over triton-bls" in goal.what] == [True]
    assert not [goal for goal in goals(without) if "triton-bls" in goal.what]


def test_the_page_shows_every_section(tmp_path: Path) -> None:
    load = {
        "offered_per_s": 100.0,
        "answered": 90,
        "refused": 10,
        "failed": 0,
        "answered_per_s": 90.0,
        "within_objective_per_s": 80.0,
        "p50_ms": 5.0,
        "p99_ms": 9.0,
        "mean_experts": None,
        "generator_cores": 0.25,
    }
    grown = {**point(4, 3.0), "size": 224, "batch": 8}
    text = page(
        store_of(
            tmp_path,
            raw={"results": [raw("routed", 2, 2.0), raw("one-graph", 2, 4.0)]},
            this_server=ours(point(1, 3.0), point(16, 2.5)),
            load={
                "most_images_per_s": 100.0,
                "objective_ms": 50.0,
                "moderate": load,
                "too_much": load,
            },
            memory={
                "warm_requests": 10,
                "requests": 1000,
                "fresh_mib": 90.0,
                "warm_mib": 100.0,
                "later_mib": 101.0,
            },
            litserve=rival(not_run="can't be installed: no | wheel"),
            growth={"image_size": [grown], "batch": [], "clients": []},
        )
    )
    assert "| gRPC | 16 | 500 | 2.00 | 4.00 | 2.50 | 1.25 | 100 | 1.50 |" in text
    assert "not run: can't be installed: no \\| wheel" in text
    assert "| 10.0% | 0.0% |" in text
    assert "| 224 | 8 | 4 |" in text
    assert "`ride bench --quick`" in text
    assert "different machines" not in text


def test_the_page_warns_of_figures_from_two_machines(tmp_path: Path) -> None:
    store = store_of(tmp_path, raw={"results": [raw("routed", 2, 2.0)]})
    other = Provenance(**{**vars(HERE), "machine": "8 cores of Y"})
    store.put("this-server", Section(other, 1.0, ours(point(1, 3.0))))
    assert "different machines" in page(store)


def test_figures_are_kept_until_they_are_measured_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, raw={"results": [raw("routed", 2, 2.0)]}, this_server=ours())
    again = Store.open(store.file)
    again.put("raw", Section(HERE, 3.0, {"results": []}))
    last = Store.open(store.file)
    assert last.sections["raw"].data == {"results": []}
    assert last.sections["this-server"] == store.sections["this-server"]
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.json"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 1}', '{"schema": 1, "sections": {"a": 1}}']
)
def test_a_damaged_file_of_figures_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "benchmarks.json").write_text(text)
    with pytest.raises(BenchmarkError, match=r"benchmarks\.json is damaged"):
        Store.open(tmp_path / "benchmarks.json")
