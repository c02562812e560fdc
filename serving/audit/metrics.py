"""What the audit shows and counts, as metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from serving.audit.audited import AuditedImages
from serving.audit.report import accuracy_lost_by_group, agreement_by_group
from serving.metrics import definitions as define
from serving.metrics.definitions import Metric
from serving.metrics.measurements import Measurement
from serving.model.proportion import Mean, Proportion
from serving.model.shot_groups import GROUPS

DROP_REASONS = ("full", "failed", "closed")


def initial_measurements(share: float, num_experts: int) -> Iterator[Measurement]:
    """The share of images that is sampled, and what counts zero so far."""
    yield Measurement(define.AUDIT_SHARE, share)
    for reason in DROP_REASONS:
        yield Measurement(define.AUDIT_DROPPED, 0, (reason,))
    for group in GROUPS:
        yield Measurement(define.AUDIT_IMAGES, 0, (group,))
        yield Measurement(define.AUDIT_AGREEMENTS, 0, (group,))
        yield Measurement(define.AUDIT_ACCURACY_LOST, 0, (group,))
    for expert in range(1, num_experts + 1) if share else ():
        yield Measurement(define.AUDIT_STOPPED, 0, (str(expert),))
        if expert < num_experts:
            yield Measurement(define.AUDIT_MISSED_HELP, 0, (str(expert),))
        if expert > 1:
            yield Measurement(define.AUDIT_FLIPS, 0, (str(expert),))


def image_measurements(image: AuditedImages) -> Iterator[Measurement]:
    """What an audited image adds."""
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
    """How things are now; None while nothing is served."""
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
