"""Metrics of answers, whichever engine gave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.metrics import definitions as define
from serving.metrics.histograms import ExemplarLabels
from serving.metrics.measurements import (
    Measurement,
    answer_distributions,
    answer_measurements,
    model_measurements,
    own_rule_measurements,
)
from serving.metrics.registry import Registry
from serving.metrics.version_counts import VersionCounts
from serving.model.manifest import Manifest, MultiplyAdds
from serving.model.routing import Float, Routed


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
        self, registry: Registry, ask: Callable[[], Mapping[int, Manifest]] | None = None
    ) -> None:
        """`ask` tells which versions are served; without it, `serve` must be called."""
        self._registry = registry
        self._ask = ask
        self._served: Mapping[int, Manifest] = {}
        self._versions = VersionCounts(registry)
        self._answers = registry.notes(self._add_up)
        self._own_rule = registry.notes(self._add_up_own_rule)
        registry.read_when_scraped(self._show)

    def serve(self, served: Mapping[int, Manifest]) -> None:
        """Tell which versions are served from now on."""
        self._served = served
        self._versions.serve(served)

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
        self._registry.count(define.DEGRADED, images)

    def observe_own_rule(self, experts_used: NDArray[np.int32]) -> None:
        """Count images [N] that were answered by the model's own rule."""
        self._own_rule.add(experts_used)

    def _show(self) -> Iterator[Measurement]:
        for version, manifest in sorted(self._served.items()):  # the newest has the last word
            yield from model_measurements(version, manifest)

    def _add_up(self, answers: Sequence[_AnswerNote]) -> None:
        if self._ask is not None:
            self.serve(self._ask())
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
        self._registry.record(answer_measurements(used, scores, costs))
        self._versions.count(version, used)
        exemplars = _of_rows(answers)
        for metric, values, rows, labels in answer_distributions(used, scores):
            theirs = [exemplars[row] for row in rows.tolist()] if exemplars else ()
            self._registry.observe(metric, values, *labels, exemplars=theirs)

    def _add_up_own_rule(self, experts_used: Sequence[NDArray[np.int32]]) -> None:
        if experts_used:
            self._registry.record(own_rule_measurements(np.concatenate(experts_used)))


def _of_rows(answers: Sequence[_AnswerNote]) -> list[ExemplarLabels | None]:
    """Exemplars, one a row; empty if no row has one."""
    if not any(each.exemplar for each in answers):
        return []
    rows: list[ExemplarLabels | None] = []
    for each in answers:
        rows += [each.exemplar, *[None] * (len(each.experts_used) - 1)]
    return rows
