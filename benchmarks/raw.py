"""What the model's work costs without any server: bare ONNX Runtime.

One thread a core, each with sessions of its own and one image at a time: nothing is shared, nothing
waits, so no server can do the same work in less. `all-experts` runs every expert on every image,
`one-graph` the same as a single graph, which is what one would serve without routing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.images import SampleImages
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models, graph_path, latest_version
from serving.model.routing import softmax
from serving.model.stage_signature import StageSignature

Classify = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], int]]
"""One image, uint8 [1, H, W, 3], to its probabilities [1, C] and how many experts it took."""

_TRIAL_IMAGES = 200
WORKS = ("routed", "all-experts", "one-graph")


@dataclass(frozen=True)
class BareResult:
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


def open_session(graph: Path | bytes) -> ort.InferenceSession:
    """A session with one thread, as the server makes them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_classifier(work: str, repository: Path) -> Classify:
    """Load sessions for one thread."""
    version = latest_version(repository)
    manifest = load_manifest(repository, version)
    if work == "one-graph":
        return _one_graph(repository, manifest, version)
    names = graph_models(manifest.num_experts)
    stages = [open_session(repository / graph_path(name, version)) for name in names]
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
    from benchmarks.one_graph import INPUT, OUTPUT, merge_experts  # noqa: PLC0415 needs onnx

    merged = open_session(merge_experts(repository, version).SerializeToString())

    def classify(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        (probabilities,) = merged.run([OUTPUT], {INPUT: image})
        return probabilities, manifest.num_experts

    return classify


def run_bare(
    work: str,
    repository: Path,
    images: SampleImages,
    threads: int,
    count: int | None = None,
    pause_ms: float = 0.0,
    duration_s: float = 0.0,
) -> BareResult:
    """Classify `count` images, cycling through `images`, by `threads` threads.

    Without a count, a trial says how many whole passes take about `duration_s`. In a process of its
    own the processor time is the work's alone.
    """
    classifiers = [load_classifier(work, repository) for _ in range(threads)]
    rows = [images.pixels[i : i + 1] for i in range(len(images))]
    for classify in classifiers:  # the first runs allocate
        for row in rows[:20]:
            classify(row)
    if count is None:
        trial = _timed(work, classifiers, rows, min(_TRIAL_IMAGES, len(rows)), 0.0)
        count = images.passes(trial.images_per_s * duration_s)
    return _timed(work, classifiers, rows, count, pause_ms)


def _timed(
    work: str,
    classifiers: list[Classify],
    rows: list[NDArray[np.uint8]],
    count: int,
    pause_ms: float,
) -> BareResult:
    numbers = iter(range(count))  # its `next` is atomic, so threads may share it
    taken: list[tuple[float, int]] = []

    def run(classify: Classify) -> None:
        for number in numbers:
            if pause_ms:
                time.sleep(pause_ms / 1e3)
            start = time.perf_counter()
            _, used = classify(rows[number % len(rows)])
            taken.append((time.perf_counter() - start, used))

    cpu, start = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(len(classifiers)) as pool:
        list(pool.map(run, classifiers))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    durations, experts = np.array(taken).T
    p50, p99 = np.percentile(durations, [50, 99])
    return BareResult(
        work=work,
        threads=len(classifiers),
        images=len(taken),
        images_per_s=len(taken) / wall,
        cpu_ms_per_image=cpu / len(taken) * 1e3,
        mean_experts=float(experts.mean()),
        p50_ms=float(p50) * 1e3,
        p99_ms=float(p99) * 1e3,
        pause_ms=pause_ms,
    )
