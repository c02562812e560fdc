"""Metrics of answers, whichever engine gave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from serving.metrics import definitions as define
from serving.metrics.families import Families
from serving.metrics.histograms import ExemplarLabels
from serving.metrics.measurements import (
    answer_distributions,
    answer_measurements,
    model_measurements,
    own_rule_measurements,
    version_measurements,
)
from serving.metrics.notes import Notes
from serving.metrics.version_counts import VersionCounts
from serving.model.image_counts import ImageCounts
from serving.model.manifest import Manifest, MultiplyAdds
from serving.model.routing import Float, Routed

_OF_THE_SERVED = (define.MODEL_INFO, define.ROUTER_THRESHOLD, define.EXPECTED_GO_ON)


class _AnswerNote(NamedTuple):
    """Answers without their probabilities, which would be many; the exemplar is of the first."""

    version: int
    costs: MultiplyAdds
    experts_used: NDArray[np.int32]
    router_scores: Float
    exemplar: ExemplarLabels | None


class AnswerMetrics:
    """Shows what is served, and counts what it answers. Any thread may observe."""

    def __init__(
        self,
        registry: CollectorRegistry,
        served: Callable[[], Mapping[int, Manifest]] | None = None,
    ) -> None:
        """`served` tells which versions are; without it, `serve` must be called."""
        self._served = served
        self._answers = Notes(registry, self._add_up)
        self._own_rule = Notes(registry, self._add_up_own_rule)
        self._versions = VersionCounts(registry)
        self._families = Families(
            registry,
            *_OF_THE_SERVED,
            define.IMAGES,
            define.DEGRADED,
            define.EXPERTS_PER_IMAGE,
            define.EXPERT_RUNS,
            define.EXPERT_RUNS_AVOIDED,
            define.MULTIPLY_ADDS,
            define.MULTIPLY_ADDS_AVOIDED,
            define.ROUTER_SCORE,
            define.OWN_RULE_IMAGES,
        )

    def serve(self, served: Mapping[int, Manifest]) -> None:
        """Tell which versions are served from now on."""
        self._families.clear(*_OF_THE_SERVED)
        self._versions.serve(served)
        for version, manifest in sorted(served.items()):  # the newest has the last word
            self._families.record(model_measurements(version, manifest))

    def observe(
        self,
        routed: Routed,
        costs: MultiplyAdds,
        version: int,
        first_from: ExemplarLabels | None = None,
    ) -> None:
        """Count answers, at least one; the first is of the request of this exemplar, if any."""
        self._answers.add(
            _AnswerNote(version, costs, routed.experts_used, routed.router_scores, first_from)
        )

    def observe_degraded(self, images: int) -> None:
        """Count images that were answered at reduced cost."""
        self._families.count(define.DEGRADED, images)

    def observe_own_rule(self, experts_used: NDArray[np.int32]) -> None:
        """Count images [N] that were answered by the model's own rule."""
        self._own_rule.add(experts_used)

    def _add_up(self, answers: Sequence[_AnswerNote]) -> None:
        if self._served is not None:
            self.serve(self._served())
        by_version = defaultdict(list)
        for answer in answers:
            by_version[answer.version, answer.costs].append(answer)
        for (version, costs), its_answers in by_version.items():
            self._add_up_version(version, costs, its_answers)

    def _add_up_version(
        self, version: int, costs: MultiplyAdds, answers: Sequence[_AnswerNote]
    ) -> None:
        used = np.concatenate([each.experts_used for each in answers])
        scores = np.concatenate([each.router_scores for each in answers])
        counts = ImageCounts.of(used, scores, costs)
        self._families.record(answer_measurements(counts))
        self._versions.record(version, version_measurements(counts, version))
        exemplars = _of_rows(answers)
        for metric, values, rows, labels in answer_distributions(used, scores):
            theirs = [exemplars[row] for row in rows.tolist()] if exemplars else ()
            self._families.observe(metric, values, *labels, exemplars=theirs)

    def _add_up_own_rule(self, experts_used: Sequence[NDArray[np.int32]]) -> None:
        if experts_used:
            self._families.record(own_rule_measurements(np.concatenate(experts_used)))


def _of_rows(answers: Sequence[_AnswerNote]) -> list[ExemplarLabels | None]:
    """Exemplars, one a row; empty if no row has one."""
    if not any(each.exemplar for each in answers):
        return []
    rows: list[ExemplarLabels | None] = []
    for each in answers:
        rows += [each.exemplar, *[None] * (len(each.experts_used) - 1)]
    return rows
