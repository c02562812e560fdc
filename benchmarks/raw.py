"""What the model's work costs without any server: bare ONNX Runtime.

    python -m benchmarks.raw model_repository --work routed --images 4000

One thread a core, each with sessions of its own and one image at a time: nothing is shared, nothing
waits, so no server can do the same work in less. `all-experts` runs every expert on every image,
`one-graph` the same as a single graph, which is what one would serve without routing.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.images import Images, read_images
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models, graph_path, latest_version
from serving.model.routing import softmax
from serving.model.stage_signature import StageSignature

Classify = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], int]]
"""One image, uint8 [1, H, W, 3], to its probabilities [1, C] and how many experts it took."""

WORKS = ("routed", "all-experts", "one-graph")


@dataclass(frozen=True)
class RawResult:
    """What bare ONNX Runtime does.

    Attributes:
        work: one of WORKS.
        threads: how many classify at the same time.
        images: how many were classified.
        images_per_s: by all threads together.
        cpu_ms_per_image: processor time of the whole process.
        mean_experts: that an image took.
        p50_ms: half of the images took at most this.
        p99_ms: and 99 % this.
        pause_ms: for which a thread slept before each image, as a server does between requests.
    """

    work: str
    threads: int
    images: int
    images_per_s: float
    cpu_ms_per_image: float
    mean_experts: float
    p50_ms: float
    p99_ms: float
    pause_ms: float = 0.0


def session(graph: Path | bytes) -> ort.InferenceSession:
    """A session with one thread, as the server makes them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def build(work: str, repository: Path) -> Classify:
    """Load sessions for one thread."""
    version = latest_version(repository)
    manifest = load_manifest(repository, version)
    if work == "one-graph":
        return _one_graph(repository, manifest, version)
    names = graph_models(manifest.num_experts)
    stages = [session(repository / graph_path(name, version)) for name in names]
    return _by_stages(stages, manifest, may_stop=work == "routed")


def _by_stages(
    stages: list[ort.InferenceSession], manifest: Manifest, *, may_stop: bool
) -> Classify:
    """Stage after stage, and all of them unless images may stop."""
    experts, classes = manifest.num_experts, manifest.num_classes
    corrections = np.zeros((experts, classes), np.float32)
    if manifest.corrections:
        corrections = np.array(manifest.corrections, np.float32)
    needed = {"features", "logits", "score"} if may_stop else {"features", "logits"}
    signatures = [StageSignature.of(stage, experts) for stage in range(1, experts + 1)]
    wanted = [[name for name in each.outputs if name in needed] for each in signatures]

    def classify(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        given: dict[str, Any] = {"image": image, "prefix_sum": np.zeros((1, classes), np.float32)}
        for i, stage in enumerate(stages):
            feeds = {name: given[name] for name in signatures[i].inputs}
            given.update(zip(wanted[i], stage.run(wanted[i], feeds), strict=True))
            given["prefix_sum"] = given["prefix_sum"] + given["logits"]
            last = i + 1 == experts
            if last or (may_stop and not given["score"][0] > manifest.thresholds[i]):
                break
        return softmax(given["prefix_sum"] / np.float32(i + 1) + corrections[i]), i + 1

    return classify


def _one_graph(repository: Path, manifest: Manifest, version: int) -> Classify:
    from benchmarks.one_graph import merge_experts  # noqa: PLC0415 needs onnx

    merged = session(merge_experts(repository, version).SerializeToString())

    def classify(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        (probabilities,) = merged.run(["probabilities"], {"image": image})
        return probabilities, manifest.num_experts

    return classify


def measure(
    work: str,
    repository: Path,
    images: Images,
    count: int,
    threads: int,
    pause_ms: float = 0.0,
) -> RawResult:
    """Classify `count` images, cycling through `images`, by `threads` threads."""
    classifiers = [build(work, repository) for _ in range(threads)]
    rows = [images.pixels[i : i + 1] for i in range(len(images))]
    for classify in classifiers:  # the first runs allocate
        for row in rows[:20]:
            classify(row)
    numbers = iter(range(count))
    durations: list[float] = []
    experts: list[int] = []

    def run(classify: Classify) -> None:
        for number in _shared(numbers):
            if pause_ms:
                time.sleep(pause_ms / 1e3)
            start = time.perf_counter()
            _, used = classify(rows[number % len(rows)])
            durations.append(time.perf_counter() - start)
            experts.append(used)

    workers = [threading.Thread(target=run, args=(classify,)) for classify in classifiers]
    cpu, start = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    p50, p99 = np.percentile(durations, [50, 99])
    return RawResult(
        work=work,
        threads=threads,
        images=len(experts),
        images_per_s=len(experts) / wall,
        cpu_ms_per_image=cpu / len(experts) * 1e3,
        mean_experts=sum(experts) / len(experts),
        p50_ms=float(p50) * 1e3,
        p99_ms=float(p99) * 1e3,
        pause_ms=pause_ms,
    )


def _shared(numbers: Iterator[int]) -> Iterator[int]:
    """Numbers that several threads take from one iterator; a range's `next` is atomic."""
    while (number := next(numbers, None)) is not None:
        yield number


def main() -> None:
    """Measure in this process alone, so that its processor time is the work's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, help="model repository")
    parser.add_argument("--work", choices=WORKS, default=WORKS[0])
    parser.add_argument("--images", type=int, default=4000, help="how many to classify")
    parser.add_argument("--every", type=int, default=1, help="use every n-th test image")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pause-ms", type=float, default=0.0, help="sleep before each image")
    options = parser.parse_args()
    images = read_images(every=options.every)
    result: Any = measure(
        options.work,
        options.repository,
        images,
        options.images,
        options.threads,
        options.pause_ms,
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
