"""Whether images still go on as often as they did when the model was measured. Pure.

Of each stage's images a share goes on. When the model was measured, so many did; if the images of
today are others, or the camera broke, that share is usually the first thing to move, and no label
is needed to see it.

The stream is watched all the time, so an ordinary test at every look would raise false alarms
without end. Page's CUSUM (Continuous Inspection Schemes, Biometrika 41, 1954) adds up the
log-likelihood ratio of "changed" against "as measured", never below zero, and raises the alarm once
the sum reaches h. Between false alarms there are then at least exp(h) observations on average,
however long it runs (G. Lorden, Procedures for Reacting to a Change in Distribution, Annals of
Mathematical Statistics 42, 1971).

"As measured" is the confidence interval of the measured share, widened by a tolerance: real images
always differ a little from a test set, and with enough of them every difference is significant.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serving.model.manifest import Manifest
from serving.model.proportion import Proportion

TOLERANCE = 0.03
"""A share that moved by less than this beyond the measured interval is no drift."""

IMAGES_BETWEEN_FALSE_ALARMS = 1e9
"""At least so many on average, all stages together, as long as the shares stay within tolerance."""

BLOCK_IMAGES = 100
WINDOW_BLOCKS = 100
"""The shares of today are those of so many blocks, the newest."""

_MEASURED_CONFIDENCE = 0.99
_MOST = 2.0
"""Evidence is capped at so many times the alarm, so that an alarm ends when the drift does."""


@dataclass(frozen=True)
class GoOn:
    """Of so many images that reached a stage, so many went on."""

    on: int
    reached: int


def go_on_counts(stopped_after: Sequence[int]) -> list[GoOn]:
    """Of stages 1..K-1, from the numbers of images that took 1..K experts."""
    reached = [sum(stopped_after[i:]) for i in range(len(stopped_after))]
    return [GoOn(on, at) for at, on in pairwise(reached)]


def expected_go_on(manifest: Manifest) -> list[GoOn]:
    """What the manifest says of stages 1..K-1; empty if it doesn't, or nothing reached a stage."""
    stops = manifest.expected_stops
    if stops is None:
        return []
    found = go_on_counts([round(share * stops.images) for share in stops.stopped_after])
    return found if all(stage.reached for stage in found) else []


@dataclass(frozen=True)
class StageDrift:
    """What is known of a stage.

    Attributes:
        stage: from 1.
        observed: the share that went on, of the newest images.
        expected: the same when the model was measured; None if the manifest doesn't say.
        evidence: of a change, as a share of what raises the alarm.
    """

    stage: int
    observed: Proportion
    expected: Proportion | None
    evidence: float

    @property
    def detected(self) -> bool:
        """Whether that is enough for an alarm."""
        return self.evidence >= 1


class DriftWatch:
    """Watches the images that a version answered by its own rule. One thread at a time."""

    def __init__(self, expected: Sequence[GoOn], num_experts: int) -> None:
        """`expected` is of each of the stages 1..K-1, or empty."""
        self._expected = expected
        self._num_experts = num_experts
        alarm = math.log(IMAGES_BETWEEN_FALSE_ALARMS * max(1, 2 * len(expected)))
        self._detectors = [_TwoSidedCusum(stage, alarm) for stage in expected]
        self._open: list[NDArray[np.int32]] = []
        self._open_images = 0
        self._blocks: deque[NDArray[np.int64]] = deque(maxlen=WINDOW_BLOCKS)
        """Of each, how many images took 1, 2, .. K experts."""

    def observe(self, experts_used: NDArray[np.int32]) -> None:
        """Take note of images [N] by the experts that they took."""
        self._open.append(experts_used)
        self._open_images += len(experts_used)
        if self._open_images >= BLOCK_IMAGES:
            self._close_block()

    def stages(self) -> list[StageDrift]:
        """How things are now, of stages 1..K-1."""
        observed = go_on_counts(sum(self._blocks, self._stopped_after()).tolist())
        return [
            StageDrift(
                i + 1,
                Proportion.estimate(stage.on, stage.reached),
                _proportion(self._expected[i]) if self._expected else None,
                self._detectors[i].evidence if self._detectors else 0.0,
            )
            for i, stage in enumerate(observed)
        ]

    def _close_block(self) -> None:
        block = self._stopped_after()
        if self._detectors:
            for detector, stage in zip(self._detectors, go_on_counts(block.tolist()), strict=True):
                detector.observe(stage)
        self._blocks.append(block)
        self._open, self._open_images = [], 0

    def _stopped_after(self) -> NDArray[np.int64]:
        """Of the images in no block yet, how many took 1, 2, .. K experts."""
        used = np.concatenate([np.empty(0, dtype=np.int32), *self._open])
        return np.bincount(used, minlength=self._num_experts + 1)[1:]


def _proportion(stage: GoOn) -> Proportion:
    return Proportion.estimate(stage.on, stage.reached, _MEASURED_CONFIDENCE)


class _TwoSidedCusum:
    """Is the share above what it may be, or below?"""

    def __init__(self, expected: GoOn, alarm: float) -> None:
        measured = _proportion(expected)
        self._alarm = alarm
        self._above = _Cusum(measured.high + TOLERANCE, _MOST * alarm)
        self._below = _Cusum(1 - measured.low + TOLERANCE, _MOST * alarm)

    def observe(self, stage: GoOn) -> None:
        off = stage.reached - stage.on
        self._above.observe(stage.on, off)
        self._below.observe(off, stage.on)

    @property
    def evidence(self) -> float:
        return max(self._above.sum, self._below.sum) / self._alarm


class _Cusum:
    """Adds up evidence that hits have become more frequent than `limit`.

    The alternative lies a tolerance further out. For every frequency below the limit the expected
    ratio is below 1 too, so the bound on false alarms holds for all of them.
    """

    def __init__(self, limit: float, most: float) -> None:
        self.sum = 0.0
        self._most = most
        self._never = limit >= 1  # nothing can be more frequent than that
        if not self._never:
            changed = limit + min(TOLERANCE, (1 - limit) / 2)
            self._hit = math.log(changed / limit)
            self._miss = math.log((1 - changed) / (1 - limit))

    def observe(self, hits: int, misses: int) -> None:
        if not self._never:
            grown = self.sum + hits * self._hit + misses * self._miss
            self.sum = min(self._most, max(0.0, grown))
