"""Prometheus metrics of the audit."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from serving.audit.audited import AuditedImages
from serving.audit.report import accuracy_lost_by_group, agreement_by_group
from serving.metrics import definitions as define
from serving.metrics.definitions import Metric
from serving.metrics.families import Families
from serving.metrics.measurements import Measurement
from serving.model.proportion import Mean, Proportion
from serving.model.shot_groups import GROUPS

DROP_REASONS = ("full", "failed", "closed")

AUDIT_GAUGES = (
    define.AUDIT_WAITING,
    define.AUDIT_AGREEMENT,
    define.AUDIT_ACCURACY_LOST_RATIO,
)
"""Those that are read when a scrape comes."""


class AuditMetrics:
    """Counts what was audited, whichever version answered. Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = Families(
            registry,
            define.AUDIT_SHARE,
            define.AUDIT_SAMPLED,
            define.AUDIT_DROPPED,
            define.AUDIT_COMPUTE_SECONDS,
            define.AUDIT_IMAGES,
            define.AUDIT_AGREEMENTS,
            define.AUDIT_ACCURACY_LOST,
            define.AUDIT_STOPPED,
            define.AUDIT_MISSED_HELP,
            define.AUDIT_FLIPS,
            define.AUDIT_EXPERT_RUNS,
            define.AUDIT_WASTED_EXPERT_RUNS,
        )
        for reason in DROP_REASONS:
            self._families.count(define.AUDIT_DROPPED, 0, reason)
        for group in GROUPS:
            self._families.count(define.AUDIT_IMAGES, 0, group)
            self._families.count(define.AUDIT_AGREEMENTS, 0, group)
            self._families.count(define.AUDIT_ACCURACY_LOST, 0, group)

    def serve(self, share: float, num_experts: int) -> None:
        """Show what counts zero so far, of a model of so many experts, if any image is sampled."""
        self._families.record([Measurement(define.AUDIT_SHARE, share)])
        for expert in range(1, num_experts + 1) if share else ():
            self._families.count(define.AUDIT_STOPPED, 0, str(expert))
            if expert < num_experts:
                self._families.count(define.AUDIT_MISSED_HELP, 0, str(expert))
            if expert > 1:
                self._families.count(define.AUDIT_FLIPS, 0, str(expert))

    def sampled(self) -> None:
        """Count an image that is to be audited."""
        self._families.count(define.AUDIT_SAMPLED, 1)

    def dropped(self, reason: str) -> None:
        """Count one that never will be, for one of `DROP_REASONS`."""
        self._families.count(define.AUDIT_DROPPED, 1, reason)

    def computed(self, seconds: float) -> None:
        """Count the time that a stage ran."""
        self._families.count(define.AUDIT_COMPUTE_SECONDS, seconds)

    def audited(self, image: AuditedImages) -> None:
        """Count one image."""
        self._families.record(_image_measurements(image))


def _image_measurements(image: AuditedImages) -> Iterator[Measurement]:
    group, used = (GROUPS[image.groups[0]],), (str(image.experts_used[0]),)
    yield Measurement(define.AUDIT_IMAGES, 1, group)
    yield Measurement(define.AUDIT_AGREEMENTS, int(image.agreed[0]), group)
    yield Measurement(define.AUDIT_ACCURACY_LOST, float(image.accuracy_lost[0]), group)
    yield Measurement(define.AUDIT_STOPPED, 1, used)
    if image.missed_help[0]:
        yield Measurement(define.AUDIT_MISSED_HELP, 1, used)
    for expert, flipped in enumerate(image.flips[0], 2):
        yield Measurement(define.AUDIT_FLIPS, int(flipped), (str(expert),))
    yield Measurement(define.AUDIT_EXPERT_RUNS, int(image.experts_used[0]))
    yield Measurement(define.AUDIT_WASTED_EXPERT_RUNS, int(image.wasted_experts[0]))


def audit_measurements(newest: AuditedImages | None, waiting: int) -> Iterator[Measurement]:
    """The values of `AUDIT_GAUGES` as they are now; None while nothing is served."""
    yield Measurement(define.AUDIT_WAITING, waiting)
    if newest is None:
        return
    for group, agreement in agreement_by_group(newest).items():
        yield from _interval(define.AUDIT_AGREEMENT, group, agreement.share, agreement)
    for group, lost in accuracy_lost_by_group(newest).items():
        yield from _interval(define.AUDIT_ACCURACY_LOST_RATIO, group, lost.mean, lost)


def _interval(
    metric: Metric, group: str, estimate: float | None, interval: Proportion | Mean
) -> Iterator[Measurement]:
    if estimate is not None:  # no image, no figure
        yield Measurement(metric, estimate, (group, "estimate"))
        yield Measurement(metric, interval.low, (group, "lower"))
        yield Measurement(metric, interval.high, (group, "upper"))
