"""What routing costs in accuracy: some images also went through all experts."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, bars, graph, interval_graph, runbook
from monitoring.grafana.promql import increase, now, rate
from serving.metrics import definitions as define
from serving.metrics.definitions import Metric

TITLE = "Audit: answers against the full ensemble"


def panels() -> list[Panel]:
    """What it found, where it comes from, and what it rests on."""
    return [*_found(), *_causes(), *_effort()]


def _found() -> list[Panel]:
    by_group = (
        f"{increase(define.AUDIT_AGREEMENTS, 'group')} / {increase(define.AUDIT_IMAGES, 'group')}"
    )
    return [
        interval_graph(
            "Agreement, with its confidence interval",
            "Share of the newest audited images that the full ensemble answers alike, and the 95 % "
            "interval. A wide interval means few audited images: wait, or raise --audit-share. "
            f"{runbook('RideDisagreement')}.",
            _bound(define.AUDIT_AGREEMENT),
            units.PercentUnit,
        ),
        interval_graph(
            "Accuracy that routing is expected to cost",
            "What the full ensemble's own probabilities say of the answers that it would have "
            f"changed, with the 95 % interval. {runbook('RideCostsAccuracy')}.",
            _bound(define.AUDIT_ACCURACY_LOST_RATIO),
            units.PercentUnit,
        ),
        bars(
            "Agreement, by shot group",
            "By the group of the full ensemble's answer: classes with many, a medium number of and "
            "few training images. Routing must not be paid for by the rare classes. Of the whole "
            "range shown.",
            Query(by_group, "{{group}}"),
            units.PercentUnit,
        ),
    ]


def _causes() -> list[Panel]:
    missed = increase(define.AUDIT_MISSED_HELP, "expert")
    wasted, runs = increase(define.AUDIT_WASTED_EXPERT_RUNS), increase(define.AUDIT_EXPERT_RUNS)
    lost = increase(define.AUDIT_ACCURACY_LOST, "group")
    return [
        bars(
            "Missed help, by the expert that images stopped at",
            "Of the images that stopped there, those that further experts would have answered "
            "differently. If it is high, lower that router's threshold "
            f"({runbook('RideCostsAccuracy')}).",
            Query(f"{missed} / {increase(define.AUDIT_STOPPED, 'expert')}", "expert {{expert}}"),
            units.PercentUnit,
        ),
        graph(
            "Wasted experts and flips",
            "Of all runs of experts on audited images, those after which nothing changed; and of "
            "audited images, those whose answer each expert changes. A high waste: raise the "
            "thresholds. Each point is of the whole range shown.",
            [
                Query(f"{wasted} / {runs}", "wasted"),
                Query(
                    f"{increase(define.AUDIT_FLIPS, 'expert')} / on () group_left () "
                    f"{increase(define.AUDIT_IMAGES)}",
                    "flips by expert {{expert}}",
                ),
            ],
            units.PercentUnit,
        ),
        bars(
            "Accuracy lost, by shot group",
            "The accuracy that routing is expected to cost, by the group of the full ensemble's "
            "answer. Of the whole range shown.",
            Query(f"{lost} / {increase(define.AUDIT_IMAGES, 'group')}", "{{group}}"),
            units.PercentUnit,
        ),
    ]


def _effort() -> list[Panel]:
    compute, audit = rate(define.COMPUTE_SECONDS), rate(define.AUDIT_COMPUTE_SECONDS)
    return [
        graph(
            "Audited images a second",
            "Drawn, audited, and drawn but dropped. It pauses under load, so drops are usual then; "
            f"if nothing gets through: {runbook('RideAuditStarved')}.",
            [
                Query(rate(define.AUDIT_SAMPLED), "drawn"),
                Query(rate(define.AUDIT_IMAGES), "audited"),
                Query(rate(define.AUDIT_DROPPED, "reason"), "dropped: {{reason}}"),
            ],
            units.NoUnit,
        ),
        graph(
            "Compute for the audit",
            "Its share of all time in graphs, beside the share of images that is to be drawn.",
            [
                Query(f"{audit} / ({audit} + {compute})", "share of compute time"),
                Query(f"max({now(define.AUDIT_SHARE)})", "share of images to draw"),
            ],
            units.PercentUnit,
        ),
        graph(
            "Images that wait for the audit",
            "They wait for an idle moment; there is room for a few hundred in a server.",
            [Query(now(define.AUDIT_WAITING), "{{instance}}")],
            units.NoUnit,
        ),
    ]


def _bound(ratio: Metric) -> str:
    return now(ratio, 'group="all", bound="%s"')
