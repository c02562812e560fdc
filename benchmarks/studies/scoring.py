"""The study `scoring`: `ride score` against bare ONNX Runtime, its memory, and Ray."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.checkout import BUNDLED
from benchmarks.errors import BenchmarkError, ServerFailed
from benchmarks.flags import Rounds
from benchmarks.process import hardware, resident_bytes
from benchmarks.raw import open_session
from benchmarks.turns import in_turns, median
from scoring.request import KeptFields, RayCluster, Routing, ScoringRequest
from scoring.session import score_session
from serving.engine.cores import usable_cores
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models, graph_path, latest_version

GOALS = {"raw": 0.9, "all experts": 1.6}
RAY_GOAL = 0.8
MOST_RESIDENT_MIB = 600
_BATCH = 64
_CORES = usable_cores()
_OWN_ROUTING = Routing()
"""The model's."""

_SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True)
class Throughput:
    """Images a second, and processor time of an image in milliseconds."""

    images_per_s: float
    cpu_ms: float


def scoring(
    data: Annotated[Path, typer.Option(help="Folder with CIFAR-100's test.parquet.")],
    rounds: Rounds = 5,
    threads: Annotated[int, typer.Option(min=1, help="One a core, unless given.")] = _CORES,
    repeat: Annotated[int, typer.Option(min=0, help="Watch memory over so many copies.")] = 0,
    ray: Annotated[int, typer.Option(min=0, help="Compare with Ray over so many copies.")] = 0,
) -> Iterator[str]:
    """How fast is ride score against bare ONNX Runtime, and how much memory does it take?

    Three ways to the same test images, in turns, so that a shared machine is as slow for one as for
    the other: ride score with routing, ride score with all experts, and a loop over bare ONNX
    Runtime that does the routed work, decoding included, with as many threads and the same batches,
    its images in memory and its answers dropped. The median of all rounds counts.

    With --repeat, ride score runs once over the file so many times over, and its resident memory is
    shown as it goes. With --ray, it runs over the file so many times over, in threads and on a Ray
    cluster of this machine, which is up already. That workers start and load the model counts, so
    one file is too short to say much.
    """
    images = data / "test.parquet"
    if not images.is_file():
        raise BenchmarkError(f"there is no {images}")
    yield str(hardware())
    if ray:
        yield from _ray_lines(images, ray, rounds, threads)
    elif repeat:
        yield from _memory_lines(images, repeat)
    else:
        yield from _speed_lines(images, rounds, threads)


def _speed_lines(images: Path, rounds: int, threads: int) -> Iterator[str]:
    """The table of speeds and the two ratios."""
    ways = {
        "ride score": lambda: scored(images, threads),
        "all experts": lambda: scored(images, threads, Routing(threshold=0.0)),
        "raw": BareScoring(BUNDLED, images, threads).run,
    }
    speeds = throughputs(ways, rounds)
    yield f"{'':<12}{'images/s':>10}{'CPU ms an image':>18}"
    for name, speed in speeds.items():
        yield f"{name:<12}{speed.images_per_s:>10.0f}{speed.cpu_ms:>18.3f}"
    ours = speeds["ride score"]
    for name, goal in GOALS.items():
        other = speeds[name]
        yield (
            f"ride score / {name}: {ours.images_per_s / other.images_per_s:.2f} in images/s, "
            f"{other.cpu_ms / ours.cpu_ms:.2f} in processor time (goal: {goal})"
        )
    costs = load_manifest(BUNDLED, latest_version(BUNDLED))
    spent = costs.evaluation.get("routed", {}).get("mean_multiply_adds")
    if spent:
        ratio = costs.multiply_adds.all_experts / spent
        yield f"multiply-adds of all experts over routed ones: {ratio:.2f}, the most that can be"


def throughputs(ways: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, Throughput]:
    """Medians of ways that take turns; each returns how many images it scored."""
    measured = in_turns({name: partial(_throughput, run) for name, run in ways.items()}, rounds)
    return {name: median(each) for name, each in measured.items()}


def _throughput(run: Callable[[], int]) -> Throughput:
    started, cpu = time.perf_counter(), time.process_time()
    count = run()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Throughput(count / wall, 1e3 * cpu / count)


def scored(
    images: Path, threads: int, routing: Routing = _OWN_ROUTING, ray: RayCluster | None = None
) -> int:
    """`ride score` in this process, from loading the model to the summary."""
    with tempfile.TemporaryDirectory() as folder:
        request = ScoringRequest(
            (str(images),),
            Path(folder) / "scores",
            BUNDLED,
            KeptFields(5),
            routing=routing,
            workers=threads,
            batch_size=_BATCH,
            ray=ray,
        )
        found = score_session(request, Console(quiet=True))
    count: int = found["answered"]
    return count


class BareScoring:
    """Threads that decode and run batches of stage after stage, and nothing else."""

    def __init__(self, repository: Path, images: Path, threads: int) -> None:
        version = latest_version(repository)
        self._manifest: Manifest = load_manifest(repository, version)
        names = graph_models(self._manifest.num_experts)
        self._stages = [open_session(repository / graph_path(name, version)) for name in names]
        rows = pq.read_table(images, columns=["img"])["img"].to_pylist()
        self._files = [row["bytes"] for row in rows]
        self._threads = threads

    def run(self) -> int:
        """Score all images; returns how many they are."""
        batches = [
            range(start, min(start + _BATCH, len(self._files)))
            for start in range(0, len(self._files), _BATCH)
        ]
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(lambda batch: self._score(self.decoded(batch)), batches))
        return len(self._files)

    def decoded(self, rows: Iterable[int]) -> NDArray[np.uint8]:
        """Some of the images, uint8 [N, H, W, 3]."""
        limits, spec = ImageLimits(), self._manifest.image
        return np.stack([decode_image(self._files[row], spec, limits) for row in rows])

    def _score(self, images: NDArray[np.uint8]) -> None:
        first, *later = self._stages
        features, logits, score = first.run(["features", "logits", "score"], {"image": images})
        for i, stage in enumerate(later):
            on: NDArray[np.bool_] = score > self._manifest.thresholds[i]
            features, sums = features[on], logits[on]
            if not len(features):
                return
            if i + 1 == len(later):
                stage.run(["logits"], {"features": features})
                return
            feeds = {"features": features, "prefix_sum": sums}
            logits, score = stage.run(["logits", "score"], feeds)
            logits = logits + sums


def _ray_lines(images: Path, copies: int, rounds: int, threads: int) -> Iterator[str]:
    """Speeds in threads and on Ray with as many, and their ratio."""
    from scoring.ray_cluster import cluster_connection  # noqa: PLC0415 an extra

    with tempfile.TemporaryDirectory() as folder, cluster_connection(None, threads):
        inputs = repeated(images, copies, Path(folder))
        ways = {
            "threads": lambda: scored(inputs, threads),
            "on Ray": lambda: scored(inputs, threads, ray=RayCluster()),
        }
        speeds = throughputs(ways, rounds)
    for name, speed in speeds.items():
        yield f"{name:<12}{speed.images_per_s:>10.0f} images/s"
    ratio = speeds["on Ray"].images_per_s / speeds["threads"].images_per_s
    yield f"on Ray / threads: {ratio:.2f} in images/s (goal: {RAY_GOAL})"


def repeated(images: Path, copies: int, folder: Path) -> Path:
    """A folder that has a file so many times."""
    inputs = folder / "inputs"
    inputs.mkdir()
    for i in range(copies):
        (inputs / f"{i:06}.parquet").symlink_to(images.absolute())
    return inputs


def _memory_lines(images: Path, repeat: int) -> Iterator[str]:
    """Resident memory of a `ride score` over the images so many times over."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = repeated(images, repeat, Path(folder))
        output = Path(folder) / "scores"
        command = [sys.executable, "-m", "ride", "score", str(inputs), "--output", str(output)]
        samples: list[float] = []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            started = time.monotonic()
            while process.poll() is None:
                with suppress(ServerFailed):  # it ended meanwhile
                    samples.append(resident_bytes(process.pid) / 2**20)
                time.sleep(_SAMPLE_EVERY_S)
            took = time.monotonic() - started
        if process.returncode:
            raise BenchmarkError(f"ride score ended with status {process.returncode}")
        parts = len(list(output.glob("parts/part-*.parquet")))
        shutil.rmtree(output)
    yield f"{repeat} times {images.name}: {took:.0f} s, {parts} parts"
    # What starts is not yet what runs.
    fifths = np.array_split(samples[min(5, len(samples) - 1) :], 5)
    most = ", ".join(f"{max(fifth, default=0):.0f}" for fifth in fifths)
    yield f"resident MiB, the most in each fifth of the time: {most} (goal: {MOST_RESIDENT_MIB})"
