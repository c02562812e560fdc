"""What is shown of a model and counted of its answers, listed once for all engines. Pure.

Each engine has a library of its own that counts; all of them take what is listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.metrics import definitions as define
from serving.metrics.definitions import Metric, stage_label
from serving.metrics.drift import StageDrift, expected_go_on
from serving.model.manifest import MODEL_NAME, Manifest, MultiplyAdds
from serving.model.multiply_adds import spent_on_answers
from serving.model.routing import Float


class Measurement(NamedTuple):
    """A value of a gauge, or what a counter rises by; 0 makes it show."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


class Distribution(NamedTuple):
    """Values [N], at least one, of a histogram; `rows` [N] are the places of their images."""

    metric: Metric
    values: NDArray[np.floating | np.integer]
    rows: NDArray[np.intp]
    labels: tuple[str, ...] = ()


def model_measurements(version: int, manifest: Manifest) -> Iterator[Measurement]:
    """What a version shows while it is served, and the counters that it begins at zero."""
    yield Measurement(define.MODEL_INFO, 1, (MODEL_NAME, str(version)))
    for expert in range(1, manifest.num_experts + 1):
        yield Measurement(define.EXPERT_RUNS, 0, (str(expert),))
        yield Measurement(define.OWN_RULE_IMAGES, 0, (str(expert),))
    for router, threshold in enumerate(manifest.thresholds, 1):
        yield Measurement(define.ROUTER_THRESHOLD, threshold, (str(router),))
    for stage, expected in enumerate(expected_go_on(manifest), 1):
        share = expected.on / expected.reached
        yield Measurement(define.EXPECTED_GO_ON, share, (stage_label(stage),))


def answer_measurements(
    experts_used: NDArray[np.int32], router_scores: Float, costs: MultiplyAdds
) -> Iterator[Measurement]:
    """What answers add, whichever version gave them: [N] and [N, K-1] of `Routed`.

    "Avoided" compares each image with the full ensemble, which runs every expert and no router.
    """
    images, experts = len(experts_used), len(costs.experts)
    spent = spent_on_answers(experts_used, router_scores, costs)
    yield Measurement(define.IMAGES, images)
    yield Measurement(define.EXPERT_RUNS_AVOIDED, images * experts - int(experts_used.sum()))
    yield Measurement(define.MULTIPLY_ADDS, spent)
    yield Measurement(define.MULTIPLY_ADDS_AVOIDED, max(0, images * costs.all_experts - spent))
    for expert in range(1, experts + 1):
        yield Measurement(define.EXPERT_RUNS, int((experts_used >= expert).sum()), (str(expert),))


def version_measurements(version: int, experts_used: NDArray[np.int32]) -> tuple[Measurement, ...]:
    """What answers [N] add to their version; of none, what it begins with."""
    label = (str(version),)
    return (
        Measurement(define.VERSION_IMAGES, len(experts_used), label),
        Measurement(define.VERSION_EXPERT_RUNS, int(experts_used.sum()), label),
    )


def own_rule_measurements(experts_used: NDArray[np.int32]) -> Iterator[Measurement]:
    """What answers [N] by the model's own rule add."""
    for experts, images in enumerate(np.bincount(experts_used).tolist()):
        if images:
            yield Measurement(define.OWN_RULE_IMAGES, images, (str(experts),))


def answer_distributions(
    experts_used: NDArray[np.int32], router_scores: Float
) -> Iterator[Distribution]:
    """Of answers, at least one: `experts_used` [N] and `router_scores` [N, K-1] of `Routed`."""
    yield Distribution(define.EXPERTS_PER_IMAGE, experts_used, np.arange(len(experts_used)))
    for router, scores in enumerate(router_scores.T, 1):
        asked = np.flatnonzero(np.isfinite(scores))
        if len(asked):
            yield Distribution(define.ROUTER_SCORE, scores[asked], asked, (str(router),))


def drift_measurements(stages: Sequence[StageDrift]) -> Iterator[Measurement]:
    """How images behave now."""
    for drift in stages:
        stage = (stage_label(drift.stage),)
        if drift.observed.share is not None:
            yield Measurement(define.GO_ON, drift.observed.share, stage)
        yield Measurement(define.DRIFT_EVIDENCE, drift.evidence, stage)
        yield Measurement(define.DRIFT_DETECTED, drift.detected, stage)
