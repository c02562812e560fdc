"""The study `audit-truth`: a server's audit beside the truth of all images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

from benchmarks.checkout import BUNDLED
from benchmarks.errors import BenchmarkError
from benchmarks.images import SampleImages, read_images
from benchmarks.process import hardware
from benchmarks.servers.ride import PATIENT, PNG, with_flags
from benchmarks.servers.server import Running, running
from serving.engine.graphs import Engine, load_engine
from serving.model.shot_groups import GROUPS, shot_groups

_FILES = 50
"""Of a request."""
_PART = 200
_SETTLED_S = 600.0


@dataclass(frozen=True)
class Truth:
    """Of N images.

    Attributes:
        routed, full: the classes that routing and that all experts answer.
        labels: the right ones.
        groups: the shot group of the full ensemble's answer, a place in `GROUPS`.
        expected_lost: the full ensemble's probability of its answer less that of routing's.
    """

    routed: NDArray[np.intp]
    full: NDArray[np.intp]
    labels: NDArray[np.int64]
    groups: NDArray[np.int8]
    expected_lost: NDArray[np.float64]

    def agreement(self, group: str) -> float:
        """The share of images on which the two agree."""
        same = self.routed == self.full
        return float(
            same.mean() if group == "all" else same[self.groups == GROUPS.index(group)].mean()
        )

    @property
    def lost_by_labels(self) -> tuple[float, float]:
        """Top-1 of all experts less that of routing, and its standard error."""
        right = [
            (answers == self.labels).astype(np.float64) for answers in (self.full, self.routed)
        ]
        lost = right[0] - right[1]
        return float(lost.mean()), float(lost.std() / math.sqrt(len(lost)))


def audit_truth(
    images: Annotated[Path, typer.Argument(help="A Parquet file of labelled images.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="To audit.")] = 0.1,
    rounds: Annotated[int, typer.Option(min=1, help="Servers, one after the other.")] = 1,
) -> Iterator[str]:
    """Does the audit of a running server find what is true of all images?

    The file is a labelled set with PNG bytes in `img` and classes in `fine_label`, as CIFAR-100 is
    published. A server that audits a share of it gets every image. Beside what it then says of
    agreement with the full ensemble and of the accuracy that routing is expected to cost stands the
    truth, every image routed and with all experts, and last the accuracy that it costs by the
    labels, which the server never sees. Of twenty intervals one should miss the truth.

    Example: python -m benchmarks audit-truth TEST.parquet --share 0.1 --rounds 5
    """
    sample, engine = read_images(images), load_engine(BUNDLED)
    truth = find_truth(engine, sample, _labels(images))
    yield f"{len(sample)} images of {images.name}, {hardware()}, {time.strftime('%Y-%m-%d')}"
    for _ in range(rounds):
        with running(with_flags(PNG, PATIENT, f"--audit-share={share}"), BUNDLED) as server:
            audit = _audit(server, sample)
        yield f"share {share:g}: {audit['sampled']} drawn, {audit['audited']} audited"
        report = audit["report"]
        for group, found in report["agreement"].items():
            yield _compared(f"  agreement, {group}", found["share"], found, truth.agreement(group))
        lost, expected = report["accuracy_lost"]["all"], float(truth.expected_lost.mean())
        yield _compared("  accuracy lost", lost["mean"], lost, expected)
    by_labels, error = truth.lost_by_labels
    yield f"accuracy lost by the labels: {by_labels:.4f}, standard error {error:.4f}"


def find_truth(engine: Engine, images: SampleImages, labels: NDArray[np.int64]) -> Truth:
    """Route every image, and take each through all experts."""
    routed, full, lost = [], [], []
    for at in range(0, len(images), _PART):
        part = images.pixels[at : at + _PART]
        answers = engine.classify(part, engine.rule()).probabilities.argmax(axis=1)
        probabilities = engine.classify(part, engine.rule(threshold=0.0)).probabilities
        routed.append(answers)
        full.append(probabilities.argmax(axis=1))
        lost.append(probabilities.max(axis=1) - probabilities[np.arange(len(part)), answers])
    classes = np.concatenate(full)
    groups = shot_groups(engine.manifest.class_counts)[classes]
    expected = np.concatenate(lost).astype(np.float64)
    return Truth(np.concatenate(routed), classes, labels, groups, expected)


def _labels(file: Path) -> NDArray[np.int64]:
    columns = pq.read_schema(file).names
    if "fine_label" not in columns:
        raise BenchmarkError(f"{file} has no column fine_label")
    labels: NDArray[np.int64] = pq.read_table(file, columns=["fine_label"])["fine_label"].to_numpy()
    return labels


def _audit(server: Running, images: SampleImages) -> dict[str, Any]:
    """What the server says once it has answered every image and audited all that it drew.

    It gets them a request at a time and may rest in between, so that no drawn image is dropped.
    """
    deadline = time.monotonic() + _SETTLED_S

    def pause() -> None:
        if time.monotonic() > deadline:
            raise BenchmarkError("the server does not come to rest")
        time.sleep(0.01)

    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
        for at in range(0, len(images), _FILES):
            files = [("file", data) for data in images.files[at : at + _FILES]]
            client.post("/v1/classify", params={"top_k": 1}, files=files).raise_for_status()
            while (audit := client.get("/v1/audit").json()["audit"])["waiting"]:
                pause()
        while audit["audited"] + sum(audit["dropped"].values()) < audit["sampled"]:
            pause()
            audit = client.get("/v1/audit").json()["audit"]
    found: dict[str, Any] = audit
    return found


def _compared(name: str, estimate: float, interval: dict[str, float], truth: float) -> str:
    held = "within" if interval["low"] <= truth <= interval["high"] else "OUTSIDE"
    return (
        f"{name}: {estimate:.4f} ({interval['low']:.4f} to {interval['high']:.4f}); "
        f"truth {truth:.4f}, {held}"
    )
