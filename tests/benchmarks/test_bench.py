"""`ride bench` itself: every section in small, and the command as it is typed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import sections
from benchmarks.errors import BenchmarkError, ServerFailed
from benchmarks.images import read_images
from benchmarks.perf_analyzer import unsupported
from benchmarks.plan import Plan
from benchmarks.program import Start
from benchmarks.servers.catalogue import OTHER_SERVERS
from benchmarks.servers.ride import PNG_WAY, WAYS
from benchmarks.servers.server import ServerSpec, running
from benchmarks.session import bench_session, choose
from benchmarks.store import Store

Ride = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))


@pytest.fixture
def plan(repository: Path) -> Plan:
    every = 50
    return Plan(
        repository=repository,
        images=read_images(every=every),
        every=every,
        duration_s=0.05,
        clients=(2,),
        objective_ms=1_000,
        memory_requests=20,
        say=lambda _: None,
    )


@pytest.mark.slow
def test_sections_of_this_server_are_measured(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but its memory and image files, which the command's test measures."""
    monkeypatch.setattr(sections, "WAYS", WAYS[:2])
    monkeypatch.setattr(sections, "_MOST_CLIENTS", 4)  # a busy machine would refuse some of 64
    output = tmp_path / "page.md"
    bench_session(
        plan,
        output,
        servers=[],
        growth=False,
        only=["raw", "this-server", "load"],
        resume=False,
        command="ride bench",
        console=Console(quiet=True),
    )
    measured = Store.open(output.with_suffix(".json")).sections
    assert list(measured) == ["raw", "this-server", "load"]
    experts = {result["work"]: result["mean_experts"] for result in measured["raw"].data["results"]}
    assert experts["one-graph"] == experts["all-experts"] == 3
    for name, way in measured["this-server"].data.items():
        (point,) = way["points"]
        # The same images, so the same work, as in bare ONNX Runtime; a trial ran before.
        work = "all-experts" if name == "ride-full" else "routed"
        assert point["mean_experts"] == pytest.approx(experts[work], abs=0.1)
        assert point["cpu_ms_per_image"] > 0
        assert point["resident_mib"] > 20
    assert "## Goals" in output.read_text()


@pytest.mark.slow
def test_the_command_measures_one_section(run_ride: Ride, call_ride: Ride, tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    command = ["bench", "--quick", "--only=memory", "--memory-requests=20", f"--output={output}"]
    done = run_ride(*command)
    assert done.returncode == 0, done.stderr
    assert "memory: " in done.stderr
    assert "## Memory" in output.read_text()
    resumed = call_ride(*command, "--resume")
    assert resumed.returncode == 0
    assert "memory: " not in resumed.stderr


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--only=speed"], "ride: there is no section 'speed'; there are raw, this-server"),
        (["--servers=apache"], "ride: there is no server 'apache'; there are triton-bls"),
        (["nowhere"], "ride: there is no model repository nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(
    call_ride: Ride, tmp_path: Path, flags: list[str], sentence: str
) -> None:
    done = call_ride("bench", *flags, f"--output={tmp_path / 'page.md'}")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("ride:")]
    assert len(lines) == 1
    assert lines[0].startswith(sentence)


def test_sections_come_in_order_whatever_is_asked_for() -> None:
    assert list(choose([], growth=False, int8=False, only=["litserve", "raw"])) == [
        "raw",
        "litserve",
    ]
    assert list(choose(["litserve"], growth=False, int8=False, only=[])) == [
        "raw",
        "this-server",
        "load",
        "litserve",
        "memory",
    ]
    with pytest.raises(BenchmarkError, match="no section"):
        choose([], growth=False, int8=False, only=["no"])


def broken(start: Start, requirements: tuple[str, ...] = ()) -> ServerSpec:
    return ServerSpec("broken", "Broken", "none", requirements, lambda _: start, PNG_WAY, "/")


def test_a_server_that_ends_says_why(repository: Path) -> None:
    start = Start([sys.executable, "-c", "import sys; sys.exit('no such model')"])
    with (
        pytest.raises(ServerFailed, match="ended with 1: no such model"),
        running(broken(start), repository),
    ):
        pass


def test_a_server_that_cannot_be_installed_is_in_the_table(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = broken(Start([]), ("no-such-thing @ file:///nowhere/no_such_thing.whl",))
    monkeypatch.setitem(OTHER_SERVERS, "broken", missing)
    result = sections.other_server(replace(plan, tools=tmp_path), "broken")
    assert result["not_run"].startswith("can't be installed: ")
    assert "points" not in result
