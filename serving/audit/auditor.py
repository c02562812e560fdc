"""Runs all experts on sampled images while the server has nothing else to do.

One thread, less urgent than any other of the server, and a stage at a time: before each it looks
whether all workers rest and nothing waits. So a request that arrives finds at most one stage of one
image in its way, and under load no audit runs at all. What is sampled then waits, and what finds no
room any more is dropped and counted.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audit.audited import AuditedImages, AuditWindow
from serving.audit.metrics import DROP_REASONS, image_measurements, initial_measurements
from serving.audit.report import AuditReport, audit_report
from serving.audit.sampler import BernoulliSampler
from serving.engine.graphs import Engine
from serving.metrics import definitions as define
from serving.metrics.registry import Registry
from serving.model.routing import Routed
from serving.model.shot_groups import shot_groups

logger = logging.getLogger(__name__)

NEWEST_KEPT = 10_000
"""Images that are kept: a share of one half is then known to within a point."""

_MOST_WAITING = 256
_MOST_WAITING_BYTES = 64 * 2**20
_NICENESS = 10
_LOOK_AGAIN_S = 0.01


@dataclass(frozen=True)
class _Sample:
    """An image, uint8 [H, W, 3], and how it was answered."""

    image: NDArray[np.uint8]
    experts_used: int
    answer: int


@dataclass(frozen=True)
class AuditState:
    """How the audit of a version stands.

    Attributes:
        share: of answered images that is sampled.
        sampled: images since the version was loaded.
        audited: of these, so many.
        dropped: never audited, by reason.
        waiting: for an idle moment.
        report: figures of the newest audited images.
    """

    share: float
    sampled: int
    audited: int
    dropped: dict[str, int]
    waiting: int
    report: AuditReport


class Auditor:
    """Audits what one version answers. Close it before the engine goes."""

    def __init__(
        self, engine: Engine, share: float, quiet: Callable[[], bool], registry: Registry
    ) -> None:
        """`share` is between 0 and 1; `quiet` tells, on any thread, whether it may work now."""
        manifest = engine.manifest
        self.share = share
        self._engine = engine
        self._quiet = quiet
        self._registry = registry
        self._groups = shot_groups(manifest.class_counts)
        self._newest = AuditWindow(NEWEST_KEPT if share else 0, manifest.num_experts)
        self._room = min(_MOST_WAITING, max(1, _MOST_WAITING_BYTES // _image_bytes(engine)))
        self._waiting: deque[_Sample] = deque()
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        registry.record(initial_measurements(share, manifest.num_experts))
        if share:
            self._sampler = BernoulliSampler(share, Random())  # noqa: S311, no secret hangs on it
            self._thread = threading.Thread(target=self._work, name="ride-audit", daemon=True)
            self._thread.start()

    def consider(self, images: NDArray[np.uint8], routed: Routed) -> None:
        """Sample some of the images, uint8 [N, H, W, 3], that were just answered.

        Call it for every image that the model's own rule answered, always on one thread.
        """
        if not self.share:
            return
        for row in self._sampler.sample(len(images)):
            sample = _Sample(
                images[row].copy(),  # the request's memory is not ours to keep
                int(routed.experts_used[row]),
                int(routed.probabilities[row].argmax()),
            )
            self._count("sampled")
            self._registry.count(define.AUDIT_SAMPLED, 1)
            with self._changed:
                has_room = len(self._waiting) < self._room and not self._closing.is_set()
                if has_room:
                    self._waiting.append(sample)
                    self._changed.notify()
            if not has_room:
                self._drop("closed" if self._closing.is_set() else "full")

    def audited(self) -> AuditedImages:
        """The newest, in no particular order."""
        return self._newest.all()

    @property
    def waiting(self) -> int:
        """Images sampled and not yet audited."""
        return len(self._waiting)

    def state(self) -> AuditState:
        """Counts and figures as they are now."""
        return AuditState(
            share=self.share,
            sampled=self._counts["sampled"],
            audited=self._counts["audited"],
            dropped={reason: self._counts[reason] for reason in DROP_REASONS},
            waiting=self.waiting,
            report=audit_report(self.audited()),
        )

    def close(self) -> None:
        """Stop; what waits is dropped."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self.share:
            self._thread.join()
        while self._waiting:
            self._waiting.pop()
            self._drop("closed")

    def _work(self) -> None:
        if sys.platform == "linux":  # where niceness is a thread's own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (sample := self._next()) is not None:
            try:
                audited = self._audit(sample)
            except Exception:  # an audit that fails must not end those to come
                logger.exception("an image could not be audited")
                self._drop("failed")
                continue
            if audited is None:
                self._drop("closed")
                return
            self._newest.add(audited)
            self._count("audited")
            self._registry.record(image_measurements(audited))

    def _next(self) -> _Sample | None:
        with self._changed:
            while not self._waiting and not self._closing.is_set():
                self._changed.wait()
            return None if self._closing.is_set() else self._waiting.popleft()

    def _audit(self, sample: _Sample) -> AuditedImages | None:
        """All stages, each in a quiet moment; None if there is none before the end."""
        estimates: list[NDArray[Any]] = []
        steps = self._engine.every_stage(sample.image[np.newaxis])
        for _ in range(self._engine.manifest.num_experts):
            if not self._wait_until_quiet():
                return None
            step = next(steps)
            self._registry.count(define.AUDIT_COMPUTE_SECONDS, step.run.seconds)
            estimates.append(step.state.answers().probabilities[0])
        predictions = np.argmax(estimates, axis=1)
        full = estimates[-1]
        return AuditedImages(
            router_scores=step.state.router_scores,
            predictions=predictions[np.newaxis].astype(np.int32),
            experts_used=np.array([sample.experts_used], dtype=np.int32),
            answers=np.array([sample.answer], dtype=np.int32),
            groups=self._groups[predictions[-1:]],
            accuracy_lost=full[predictions[-1:]] - full[[sample.answer]],
        )

    def _wait_until_quiet(self) -> bool:
        while not self._quiet():
            if self._closing.wait(_LOOK_AGAIN_S):
                return False
        return not self._closing.is_set()

    def _drop(self, reason: str) -> None:
        self._count(reason)
        self._registry.count(define.AUDIT_DROPPED, 1, reason)

    def _count(self, what: str) -> None:
        with self._changed:
            self._counts[what] += 1


def _image_bytes(engine: Engine) -> int:
    spec = engine.manifest.image
    return spec.height * spec.width * 3
