"""Where a request's time goes."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, graph, runbook
from monitoring.grafana.promql import now, quantile, rate
from serving.metrics import definitions as define
from serving.metrics.definitions import Metric

TITLE = "Latency"


def panels() -> list[Panel]:
    """From the outside to the graphs."""
    return [
        graph(
            "Requests, by protocol",
            "Median and 99th percentile from arrival to answer, and the objective that overload "
            "control works for. Every request counts, probes and scrapes too. Points are requests "
            f"with their ids, to look for in traces and logs. {runbook('RideSlow')}.",
            [
                *_median_and_99th(define.REQUEST_DURATION, "protocol", exemplars=True),
                Query(f"max({now(define.LATENCY_OBJECTIVE)})", "objective"),
            ],
            units.Seconds,
        ),
        graph(
            "Queues, by stage",
            "How long images waited for a stage. Long waits in all stages: too much load. In one: "
            f"its batches are dear. {runbook('RideSlow')}.",
            _median_and_99th(define.STAGE_QUEUE_SECONDS, "stage"),
            units.Seconds,
        ),
        graph(
            "Compute, by stage",
            "How long a batch was in a stage's graphs. Stage expert_1 has the backbone as well. In "
            "Triton the wait for an instance of the graph is included.",
            _median_and_99th(define.STAGE_COMPUTE_SECONDS, "stage"),
            units.Seconds,
        ),
        graph(
            "Decoding",
            "From image files to tensors, the wait for a thread included. If it dominates, send "
            "smaller pictures or tensors.",
            _median_and_99th(define.DECODING_SECONDS, ""),
            units.Seconds,
        ),
        graph(
            "Event loop",
            "How far it is behind; requests wait that long before anybody has seen them. "
            f"{runbook('RideEventLoopBehind')}.",
            [Query(now(define.EVENT_LOOP_LAG), "{{instance}}")],
            units.Seconds,
        ),
        graph(
            "Compute seconds a second, by stage",
            "How much of a processor each stage keeps busy: what a faster stage would bring.",
            [Query(rate(define.STAGE_COMPUTE_SECONDS, "stage", part="_sum"), "{{stage}}")],
            units.NoUnit,
        ),
    ]


def _median_and_99th(histogram: Metric, by: str, *, exemplars: bool = False) -> list[Query]:
    name = f"{{{{{by}}}}}: " if by else ""
    return [
        Query(quantile(0.5, histogram, by), f"{name}median"),
        Query(quantile(0.99, histogram, by), f"{name}99th percentile", exemplars),
    ]
