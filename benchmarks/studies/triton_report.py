"""The study `triton-report`: what Triton does with its time and its shared memory."""

from __future__ import annotations

import json
import shutil
import statistics
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import drive
from benchmarks.checkout import BUNDLED
from benchmarks.drive import Point
from benchmarks.flags import Rounds, Seconds
from benchmarks.images import SampleImages, read_images
from benchmarks.markdown import cells, table
from benchmarks.process import hardware
from benchmarks.servers.server import Running, ServerSpec, running
from benchmarks.servers.triton import BLS, ONE_GRAPH, SELF_ROUTING
from benchmarks.turns import in_turns, median

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 that is where Triton puts it
_SOAK_CLIENTS = 16
_SOAK_PARTS = 4
_CLIENTS = [1, 16, 64]
_RATIOS = [(BLS, ONE_GRAPH), (SELF_ROUTING, ONE_GRAPH), (SELF_ROUTING, BLS)]
_POINT = {
    "images/s": "{images_per_s:.0f}",
    "p50 ms": "{p50_ms:.1f}",
    "p99 ms": "{p99_ms:.1f}",
    "CPU ms an image": "{cpu_ms_per_image:.2f}",
}
_CALLS = {
    "model": "`{model}`",
    "images": "{images}",
    "calls": "{calls}",
    "images a call": "{images_a_call:.2f}",
    "queue ms": "{queue_ms:.2f}",
    "ms a call": "{compute_ms:.2f}",
    "ms an image": "{ms_an_image:.2f}",
}


@dataclass(frozen=True)
class Calls:
    """What a model did during a load, by Triton's statistics.

    Attributes:
        model: its name.
        images: that went through it.
        calls: batches.
        queue_ms: that an image's request waited for it, on average.
        compute_ms: that a call took, on average.
    """

    model: str
    images: int
    calls: int
    queue_ms: float
    compute_ms: float

    @property
    def means(self) -> dict[str, float]:
        """Of each call, and of each image."""
        return {
            "images_a_call": self.images / self.calls,
            "ms_an_image": self.compute_ms * self.calls / self.images,
        }


def triton_report(
    repository: Annotated[
        Path,
        typer.Argument(metavar="[MODEL_REPOSITORY]", help="What it serves.", show_default=False),
    ] = BUNDLED,
    clients: Annotated[
        list[int], typer.Option(min=1, help="May be given more than once.")
    ] = _CLIENTS,
    seconds: Seconds = 5.0,
    rounds: Rounds = 3,
    soak: Annotated[int, typer.Option(min=0, help="Requests to /dev/shm's end.")] = 0,
) -> Iterator[str]:
    """Where does Triton's time go: BLS, the self-routing graph, all experts; calls, /dev/shm?

    Three Tritons of this machine (benchmarks/local_triton) are asked in turns: a shared machine is
    then as slow for one as for the others. perf_analyzer asks over gRPC, with the real images of
    benchmarks/images.py, one in a request. --soak asks `ride` so many times more and says what that
    does to /dev/shm, where Triton and its Python models exchange tensors.
    """
    images, elsewhere = read_images(), _shared_mib()
    yield f"{hardware()}\n"
    with ExitStack() as stack:
        servers = {
            spec.name: (spec, stack.enter_context(running(spec, repository)))
            for spec in (BLS, SELF_ROUTING, ONE_GRAPH)
        }
        for count in clients:
            yield from _compared(servers, images, count, seconds, rounds)
        if soak:
            yield from _soaked(servers[BLS.name][1], images, soak, elsewhere)


def _compared(
    servers: Mapping[str, tuple[ServerSpec, Running]],
    images: SampleImages,
    clients: int,
    seconds: float,
    rounds: int,
) -> Iterator[str]:
    calls: dict[str, list[Calls]] = {}

    def ask(spec: ServerSpec, server: Running) -> Point:
        before = _statistics(server)
        point = drive.closed(server, spec.way, images, clients=clients, duration_s=seconds)
        calls[spec.name] = list(calls_between(before, _statistics(server)))
        return point

    points = in_turns({name: partial(ask, *server) for name, server in servers.items()}, rounds)
    yield f"\n### {clients} clients\n"
    rows = [
        [servers[name][0].title, *cells(_POINT, vars(median(each)))]
        for name, each in points.items()
    ]
    yield table(["", *_POINT], rows)
    for ours, other in _RATIOS:
        pairs = zip(points[ours.name], points[other.name], strict=True)
        ratios = [mine.images_per_s / theirs.images_per_s for mine, theirs in pairs]
        every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        yield (
            f"{ours.title}, over {other.title}, images/s, round by round: {every}; "
            f"median {statistics.median(ratios):.2f}.\n"
        )
    done = [each for name in (BLS.name, SELF_ROUTING.name) for each in calls[name]]
    yield table(list(_CALLS), [cells(_CALLS, vars(each) | each.means) for each in done])


def _soaked(
    server: Running, images: SampleImages, requests: int, elsewhere: float
) -> Iterator[str]:
    """Lines of a list. `elsewhere` is what was in /dev/shm before both servers started, in MiB."""
    yield f"\n### /dev/shm of both over {requests:,} requests by {_SOAK_CLIENTS} clients\n"
    yield f"- before: {_shared_mib() - elsewhere:.1f} MiB"
    done = 0
    for _ in range(_SOAK_PARTS):
        part = images.passes(requests / _SOAK_PARTS)
        point = drive.closed(
            server, BLS.way, images, clients=_SOAK_CLIENTS, duration_s=0, requests=part
        )
        done += part
        yield (
            f"- after {done:,}: {_shared_mib() - elsewhere:.1f} MiB; "
            f"resident {point.resident_mib:.0f} MiB, {point.images_per_s:.0f} images/s"
        )


def _shared_mib() -> float:
    return shutil.disk_usage(_SHARED_MEMORY).used / 2**20


def _statistics(server: Running) -> dict[str, dict[str, Any]]:
    url = f"http://127.0.0.1:{server.port}/v2/models/stats"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return {model["name"]: model for model in json.load(answer)["model_stats"]}


def calls_between(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> Iterator[Calls]:
    """What each model did between two states of Triton's statistics, by model."""
    for name, now in after.items():
        was = before[name]
        calls = now["execution_count"] - was["execution_count"]
        if calls:
            images = now["inference_count"] - was["inference_count"]
            queue = (each["inference_stats"]["queue"] for each in (was, now))
            yield Calls(name, images, calls, _mean_ms(*queue), _mean_ms(_runs(was), _runs(now)))


def _mean_ms(was: dict[str, int], now: dict[str, int]) -> float:
    count, ns = (now[key] - was[key] for key in ("count", "ns"))
    return ns / count / 1e6 if count else 0.0


def _runs(statistics: dict[str, Any]) -> dict[str, int]:
    """By batches: of one of several requests Triton's other statistics count each request's."""
    runs = [batch["compute_infer"] for batch in statistics.get("batch_stats", ())]
    return {key: sum(run[key] for run in runs) for key in ("count", "ns")}
