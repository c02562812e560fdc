"""How much there is to do, and what the server does about it."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, graph, runbook
from monitoring.grafana.promql import mean, now, part_of, quantile, rate
from monitoring.status_codes import FAULTS, REFUSALS, SUCCESSES
from serving.metrics import definitions as define

TITLE = "Load, degradation and errors"


def panels() -> list[Panel]:
    """Load, then what is done about too much of it, then what went wrong."""
    return [*_load(), *_overload()]


def _load() -> list[Panel]:
    return [
        graph(
            "Requests a second, by protocol",
            "Every request, probes and scrapes too.",
            [Query(rate(define.REQUESTS, "protocol"), "{{protocol}}")],
            units.NoUnit,
        ),
        graph(
            "Batch sizes, by stage",
            "Mean and 90th percentile of images that a stage ran together. Batches grow with the "
            "load; later stages have smaller ones, since fewer images get there.",
            [
                Query(mean(define.STAGE_BATCH_SIZE, "stage"), "{{stage}}: mean"),
                Query(
                    quantile(0.9, define.STAGE_BATCH_SIZE, "stage"), "{{stage}}: 90th percentile"
                ),
            ],
            units.NoUnit,
        ),
        graph(
            "Queue depth, by stage",
            "Images that wait at the moment of a scrape, in all servers. A depth that stays is "
            f"more load than there is capacity: {runbook('RideDegraded')}.",
            [Query(f"sum by (stage) ({now(define.QUEUE_DEPTH)})", "{{stage}}")],
            units.NoUnit,
        ),
    ]


def _overload() -> list[Panel]:
    requests = rate(define.REQUESTS, "protocol")
    refused = rate(define.REQUESTS, "protocol", f'code=~"{REFUSALS}"')
    faults = rate(define.REQUESTS, "protocol", f'code=~"{FAULTS}"')
    return [
        graph(
            "Degradation level",
            "Each level is a cheaper gear of the model, put on top of what requests ask for. "
            f"{runbook('RideDegraded')}.",
            [Query(now(define.DEGRADATION_LEVEL), "{{instance}}")],
            units.NoUnit,
        ),
        graph(
            "Degraded, refused and failed",
            "Share of images that were answered at reduced cost, and of requests that were "
            "refused or failed by the server's fault. Refusals come after the last gear: "
            f"{runbook('RideRefuses')}. {runbook('RideFaults')}.",
            [
                Query(f"{rate(define.DEGRADED)} / {rate(define.IMAGES)}", "degraded"),
                Query(part_of(refused, requests), "refused, {{protocol}}"),
                Query(part_of(faults, requests), "failed, {{protocol}}"),
            ],
            units.PercentUnit,
        ),
        graph(
            "Answers other than success, by code",
            "4xx, INVALID_ARGUMENT and NOT_FOUND are the client's; 499 and CANCELLED hung up; 503 "
            "and RESOURCE_EXHAUSTED are refusals; the rest are faults: "
            f"{runbook('RideFaults')}.",
            [
                Query(
                    rate(define.REQUESTS, "protocol, code", f'code!~"{SUCCESSES}"'),
                    "{{protocol}} {{code}}",
                ),
            ],
            units.NoUnit,
        ),
    ]
