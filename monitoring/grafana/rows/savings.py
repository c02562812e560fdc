"""What routing saved: three answers, because they differ."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, graph, runbook
from monitoring.grafana.promql import rate
from serving.metrics import definitions as define

TITLE = "Savings against the full ensemble"


def panels() -> list[Panel]:
    """Images, multiply-adds and seconds, then the shares side by side."""
    runs, runs_avoided = rate(define.EXPERT_RUNS), rate(define.EXPERT_RUNS_AVOIDED)
    adds, adds_avoided = rate(define.MULTIPLY_ADDS), rate(define.MULTIPLY_ADDS_AVOIDED)
    seconds, full = rate(define.COMPUTE_SECONDS), rate(define.FULL_ENSEMBLE_SECONDS)
    columns = 6
    return [
        graph(
            "Saved share",
            "Experts' runs left out, weighed by what they cost on paper, and in measured time. "
            "Time below multiply-adds: small batches in later stages are dear on this machine. "
            f"{runbook('RideRoutingSavesNoTime')}.",
            [
                Query(f"{runs_avoided} / ({runs} + {runs_avoided})", "runs of experts"),
                Query(f"{adds_avoided} / ({adds} + {adds_avoided})", "multiply-adds"),
                Query(f"1 - {seconds} / {full}", "compute time"),
            ],
            units.PercentUnit,
            least=None,
            columns=columns,
        ),
        graph(
            "Runs of experts on images",
            "Done, and left out because an image's answer was good enough before.",
            [Query(runs, "done"), Query(runs_avoided, "left out")],
            units.NoUnit,
            columns=columns,
        ),
        graph(
            "Multiply-adds",
            "Spent on images, and what the full ensemble would have spent in addition.",
            [Query(adds, "spent"), Query(adds_avoided, "left out")],
            units.Short,
            columns=columns,
        ),
        graph(
            "Compute seconds a second",
            "Time in which graphs ran, and an estimate of what the full ensemble would have taken "
            "on the same images. The embedded server has the estimate.",
            [Query(seconds, "measured"), Query(full, "full ensemble, estimated")],
            units.NoUnit,
            columns=columns,
        ),
    ]
