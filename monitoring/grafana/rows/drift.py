"""Whether images still behave as they did when the model was measured."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, graph, runbook
from monitoring.grafana.promql import SELECTED, now
from serving.metrics import definitions as define

TITLE = "Drift"


def panels() -> list[Panel]:
    """The shares that go on, and what the test makes of them."""
    return [
        graph(
            "Share that goes on, by stage",
            "Of the newest images that the model's own thresholds answered, those that reached a "
            "stage and went on, as the server counts them and over the last hour; beside it, what "
            f"was measured with the model. A lasting gap: {runbook('RideDrift')}.",
            [
                Query(now(define.GO_ON), "{{stage}} now, {{instance}}"),
                Query(
                    f"instance:ride_go_on:ratio1h{{{SELECTED}}}",
                    "{{stage}} last hour, {{instance}}",
                ),
                Query(f"max by (stage) ({now(define.EXPECTED_GO_ON)})", "{{stage}} as measured"),
            ],
            units.PercentUnit,
            most=1,
            columns=12,
        ),
        graph(
            "Evidence of a change, by stage",
            "Adds up for as long as the shares are off (a CUSUM test), and raises the alarm at "
            "100 %. Chance alone hardly ever gets there.",
            [
                Query(now(define.DRIFT_EVIDENCE), "{{stage}}, {{instance}}"),
                Query(f"max by (stage) ({now(define.DRIFT_DETECTED)})", "{{stage}}: alarm"),
            ],
            units.PercentUnit,
            columns=12,
        ),
    ]
