"""The first row: one look, and an operator knows whether to read on."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, ThresholdStep, one_number, runbook
from monitoring.grafana.promql import increase, mean, now, part_of, quantile, rate
from monitoring.status_codes import FAULTS, REFUSALS
from serving.metrics import definitions as define

TITLE = "Overview"


def panels() -> list[Panel]:
    """Two lines of six numbers: what is done and what it costs, then what goes wrong."""
    return [*_work(), *_trouble()]


def _work() -> list[Panel]:
    spent, avoided = rate(define.MULTIPLY_ADDS), rate(define.MULTIPLY_ADDS_AVOIDED)
    return [
        one_number(
            "Images a second",
            "Images classified, of all clients together.",
            rate(define.IMAGES),
            units.NoUnit,
        ),
        one_number(
            "Average experts per image",
            "The headline: between 1 and the number of experts that the model has. If it moves "
            "while clients and thresholds stay the same, images have changed: "
            f"{runbook('RideDrift')}.",
            mean(define.EXPERTS_PER_IMAGE),
            units.NoUnit,
        ),
        one_number(
            "Multiply-adds saved",
            "Of what the full ensemble would have spent on the same images, the share that was "
            "not needed.",
            f"{avoided} / ({spent} + {avoided})",
            units.PercentUnit,
        ),
        one_number(
            "Compute time saved",
            "The same in measured seconds. It may be lower than the multiply-adds say, even below "
            "zero, where later stages run on small batches: "
            f"{runbook('RideRoutingSavesNoTime')}. The embedded server has it.",
            f"1 - {rate(define.COMPUTE_SECONDS)} / {rate(define.FULL_ENSEMBLE_SECONDS)}",
            units.PercentUnit,
        ),
        one_number(
            "Latency, 99th percentile",
            "99 of 100 requests took at most this, from their arrival to the answer. If it is "
            f"above the objective: {runbook('RideSlow')}.",
            quantile(0.99, define.REQUEST_DURATION),
            units.Seconds,
        ),
        one_number(
            "Agreement with the full ensemble",
            "Of the audited images of the range shown, the share whose answer all experts together "
            f"gave as well. If it is low: {runbook('RideDisagreement')}.",
            f"{increase(define.AUDIT_AGREEMENTS)} / {increase(define.AUDIT_IMAGES)}",
            units.PercentUnit,
        ),
    ]


def _trouble() -> list[Panel]:
    requests = rate(define.REQUESTS)
    return [
        one_number(
            "Alerts firing",
            "Alerts of this job; Prometheus' page of alerts names them, docs/runbooks.md says what "
            "to do.",
            'sum(ALERTS{alertstate="firing", job="$job"}) or vector(0)',
            units.NoUnit,
            [ThresholdStep(1, "red")],
        ),
        one_number(
            "Faults",
            "Share of requests that failed by the server's fault or were too late. "
            f"{runbook('RideFaults')}.",
            part_of(rate(define.REQUESTS, where=f'code=~"{FAULTS}"'), requests),
            units.PercentUnit,
            [ThresholdStep(0.001, "orange"), ThresholdStep(0.01, "red")],
        ),
        one_number(
            "Refused",
            "Share of requests that were refused because there was too much to do, or nothing was "
            f"served. {runbook('RideRefuses')}.",
            part_of(rate(define.REQUESTS, where=f'code=~"{REFUSALS}"'), requests),
            units.PercentUnit,
            [ThresholdStep(0.001, "orange"), ThresholdStep(0.01, "red")],
        ),
        one_number(
            "Degradation level",
            "Of the server that is worst off: 0 while answers cost what was asked for, and a level "
            f"for each cheaper gear. {runbook('RideDegraded')}.",
            f"max({now(define.DEGRADATION_LEVEL)})",
            units.NoUnit,
            [ThresholdStep(1, "orange"), ThresholdStep(2, "red")],
        ),
        one_number(
            "Evidence of drift",
            "That images go on more or less often than they did when the model was measured; an "
            f"alarm at 100 %. {runbook('RideDrift')}.",
            f"max({now(define.DRIFT_EVIDENCE)})",
            units.PercentUnit,
            [ThresholdStep(0.5, "orange"), ThresholdStep(1, "red")],
        ),
        one_number(
            "Servers",
            "Servers that Prometheus reaches and that serve a model.",
            f"count(count by (instance) ({now(define.MODEL_INFO)}))",
            units.NoUnit,
        ),
    ]
