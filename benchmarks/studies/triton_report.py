"""Where Triton's time goes: BLS against all experts as one graph, calls of each stage, /dev/shm.

    python -m benchmarks.studies.triton_report model_repository

Two Tritons of this machine (benchmarks/local_triton) are asked in turns: a shared machine is then
as slow for one as for the other. perf_analyzer asks over gRPC, with the real images of
`benchmarks/images.py`, one in a request. `--soak` asks `ride` so many times more and says what that
does to /dev/shm, where Triton and its Python models exchange tensors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import drive
from benchmarks.drive import Point
from benchmarks.images import Images, read_images
from benchmarks.process import machine
from benchmarks.servers.server import Contender, Running, environment_for, running
from benchmarks.servers.triton import BLS, ONE_GRAPH

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 that is where Triton puts it
_SOAK_CLIENTS = 16
_SOAK_PARTS = 4


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


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, help="model repository")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of both in turns (default 3)")
    parser.add_argument(
        "--soak", type=int, default=0, help="requests to /dev/shm's end (default 0)"
    )
    options = parser.parse_args()
    images = read_images()
    print(f"{machine()}\n")
    elsewhere = _shared_mib()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            contender.name: stack.enter_context(
                running(
                    contender,
                    environment_for(contender),
                    options.repository,
                    folder / contender.name,
                )
            )
            for contender in (BLS, ONE_GRAPH)
        }
        for clients in options.clients:
            for line in _compared(servers, images, clients, options.seconds, options.rounds):
                print(line, flush=True)
        if options.soak:
            for line in _soaked(servers[BLS.name], images, options.soak, elsewhere):
                print(line, flush=True)


def _compared(
    servers: dict[str, Running], images: Images, clients: int, seconds: float, rounds: int
) -> Iterator[str]:
    points: dict[str, list[Point]] = {BLS.name: [], ONE_GRAPH.name: []}
    calls: list[Calls] = []
    for _ in range(rounds):
        for contender in (BLS, ONE_GRAPH):
            server = servers[contender.name]
            before = _statistics(server)
            point = _asked(server, contender, images, clients, seconds)
            points[contender.name].append(point)
            if contender is BLS:
                calls = list(calls_between(before, _statistics(server)))
    ratios = [
        bls.images_per_s / one.images_per_s
        for bls, one in zip(points[BLS.name], points[ONE_GRAPH.name], strict=True)
    ]
    yield f"\n### {clients} clients\n"
    yield "| | images/s | p50 ms | p99 ms | CPU ms an image |\n| --- | --- | --- | --- | --- |"
    for contender in (BLS, ONE_GRAPH):
        yield _row(contender.title, points[contender.name])
    every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    median = _median(ratios)
    yield f"\nBLS over one graph, images/s, round by round: {every}; median {median:.2f}.\n"
    yield "| model | images | calls | images a call | queue ms | ms a call | ms an image |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    yield from (_calls_row(each) for each in calls)


def _asked(
    server: Running, contender: Contender, images: Images, clients: int, seconds: float
) -> Point:
    return drive.closed(server, contender.way, images, clients=clients, duration_s=seconds)


def _row(title: str, points: Sequence[Point]) -> str:
    values = (
        f"{_median([point.images_per_s for point in points]):.0f}",
        f"{_median([point.p50_ms for point in points]):.1f}",
        f"{_median([point.p99_ms for point in points]):.1f}",
        f"{_median([point.cpu_ms_per_image for point in points]):.2f}",
    )
    return f"| {title} | {' | '.join(values)} |"


def _calls_row(calls: Calls) -> str:
    each, images = calls.images / calls.calls, calls.compute_ms * calls.calls / calls.images
    return (
        f"| `{calls.model}` | {calls.images} | {calls.calls} | {each:.2f} | "
        f"{calls.queue_ms:.2f} | {calls.compute_ms:.2f} | {images:.2f} |"
    )


def _soaked(server: Running, images: Images, requests: int, elsewhere: float) -> Iterator[str]:
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
    for name, its in after.items():
        was = before[name]
        calls = its["execution_count"] - was["execution_count"]
        if not calls:
            continue

        def mean_ms(kind: str, was: dict[str, Any] = was, its: dict[str, Any] = its) -> float:
            count, ns = (
                its["inference_stats"][kind][key] - was["inference_stats"][kind][key]
                for key in ("count", "ns")
            )
            return ns / count / 1e6 if count else 0.0

        yield Calls(
            model=name,
            images=its["inference_count"] - was["inference_count"],
            calls=calls,
            queue_ms=mean_ms("queue"),
            compute_ms=_compute_ms(was, its),
        )


def _compute_ms(was: dict[str, Any], its: dict[str, Any]) -> float:
    """Mean time of a call: of a batch of several requests Triton counts each request's."""
    seconds = {
        batch["batch_size"]: (batch["compute_infer"]["count"], batch["compute_infer"]["ns"])
        for batch in was.get("batch_stats", ())
    }
    count = ns = 0
    for batch in its.get("batch_stats", ()):
        old_count, old_ns = seconds.get(batch["batch_size"], (0, 0))
        count += batch["compute_infer"]["count"] - old_count
        ns += batch["compute_infer"]["ns"] - old_ns
    return ns / count / 1e6 if count else 0.0


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
