"""Prometheus metrics of the audit."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge

from serving.audit.outcomes import Outcomes
from serving.audit.report import accuracy_lost_by_group, agreement_by_group
from serving.metrics import definitions as define
from serving.metrics.families import counter, gauge
from serving.model.proportion import Mean, Proportion
from serving.model.shot_groups import GROUPS

DROP_REASONS = ("full", "failed", "closed")


class AuditMetrics:
    """Counts what was audited, whichever version answered. Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.share = gauge(define.AUDIT_SHARE, registry)
        self.sampled = counter(define.AUDIT_SAMPLED, registry)
        self.dropped = counter(define.AUDIT_DROPPED, registry)
        self.compute_seconds = counter(define.AUDIT_COMPUTE_SECONDS, registry)
        self._waiting = gauge(define.AUDIT_WAITING, registry)
        self._images = counter(define.AUDIT_IMAGES, registry)
        self._agreements = counter(define.AUDIT_AGREEMENTS, registry)
        self._accuracy_lost = counter(define.AUDIT_ACCURACY_LOST, registry)
        self._stopped = counter(define.AUDIT_STOPPED, registry)
        self._missed_help = counter(define.AUDIT_MISSED_HELP, registry)
        self._flips = counter(define.AUDIT_FLIPS, registry)
        self._runs = counter(define.AUDIT_EXPERT_RUNS, registry)
        self._wasted_runs = counter(define.AUDIT_WASTED_EXPERT_RUNS, registry)
        self._agreement = gauge(define.AUDIT_AGREEMENT, registry)
        self._accuracy_lost_ratio = gauge(define.AUDIT_ACCURACY_LOST_RATIO, registry)
        for reason in DROP_REASONS:
            self.dropped.labels(reason)
        for group in GROUPS:
            for family in (self._images, self._agreements, self._accuracy_lost):
                family.labels(group)

    def serve(self, num_experts: int) -> None:
        """Show what counts zero so far, of a model of so many experts."""
        for expert in range(1, num_experts + 1):
            self._stopped.labels(str(expert))
            if expert < num_experts:
                self._missed_help.labels(str(expert))
            if expert > 1:
                self._flips.labels(str(expert))

    def observe(self, outcome: Outcomes) -> None:
        """Count one image's outcome."""
        group, used = GROUPS[outcome.groups[0]], str(outcome.experts_used[0])
        self._images.labels(group).inc()
        self._agreements.labels(group).inc(int(outcome.agreed[0]))
        self._accuracy_lost.labels(group).inc(float(outcome.accuracy_lost[0]))
        self._stopped.labels(used).inc()
        if outcome.missed_help[0]:
            self._missed_help.labels(used).inc()
        for expert, flipped in enumerate(outcome.flips[0], 2):
            self._flips.labels(str(expert)).inc(int(flipped))
        self._runs.inc(int(outcome.experts_used[0]))
        self._wasted_runs.inc(int(outcome.wasted_experts[0]))

    def show(self, newest: Outcomes | None, waiting: int) -> None:
        """The state of things as it is now, for the next scrape; None while nothing is served."""
        self._waiting.set(waiting)
        self._agreement.clear()
        self._accuracy_lost_ratio.clear()
        if newest is None:
            return
        for group, agreement in agreement_by_group(newest).items():
            _set(self._agreement, group, agreement.share, agreement)
        for group, lost in accuracy_lost_by_group(newest).items():
            _set(self._accuracy_lost_ratio, group, lost.mean, lost)


def _set(family: Gauge, group: str, estimate: float | None, interval: Proportion | Mean) -> None:
    if estimate is None:  # no image, no figure
        return
    for bound, value in _bounds(estimate, interval):
        family.labels(group, bound).set(value)


def _bounds(estimate: float, interval: Proportion | Mean) -> Iterator[tuple[str, float]]:
    yield "estimate", estimate
    yield "lower", interval.low
    yield "upper", interval.high
