"""Servers side by side, by the rules that Prometheus records: which one is odd?"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.grafana.panels import Panel, Query, graph, runbook
from monitoring.grafana.promql import SELECTED

TITLE = "Servers compared"


def panels() -> list[Panel]:
    """What they do, then what it takes from the machine."""
    return [
        _compared(
            "Average experts per image",
            "Servers that get the same mix of images should agree.",
            "instance:ride_experts_per_image:mean5m",
            units.NoUnit,
        ),
        _compared(
            "Multiply-adds saved",
            "A server that saves less gets harder images, or has another version.",
            "instance:ride_multiply_adds_saved:ratio5m",
            units.PercentUnit,
        ),
        _compared(
            "Compute time saved",
            f"Below zero, routing costs time: {runbook('RideRoutingSavesNoTime')}.",
            "instance:ride_compute_seconds_saved:ratio5m",
            units.PercentUnit,
        ),
        _compared(
            "Latency, 99th percentile",
            f"One slow server: its machine. All: the load. {runbook('RideSlow')}.",
            "instance:ride_request_duration_seconds:p99_5m",
            units.Seconds,
        ),
        _compared(
            "Faults",
            f"Share of requests. {runbook('RideFaults')}.",
            "instance:ride_faults:ratio5m",
            units.PercentUnit,
        ),
        _compared(
            "Refused",
            f"Share of requests. {runbook('RideRefuses')}.",
            "instance:ride_refusals:ratio5m",
            units.PercentUnit,
        ),
        _compared(
            "Images a second",
            "How the load is spread.",
            "instance:ride_images:rate5m",
            units.NoUnit,
        ),
        _compared(
            "Processors in use",
            "Processor seconds a second of the process; 2 is two cores.",
            "instance:process_cpu_seconds:rate5m",
            units.NoUnit,
        ),
        _compared(
            "Memory",
            "Resident memory of the process. It should be level under a steady load: "
            f"{runbook('RideMemoryGrows')}.",
            "process_resident_memory_bytes",
            units.BytesIEC,
        ),
    ]


def _compared(title: str, description: str, series: str, unit: str) -> Panel:
    query = Query(f"{series}{{{SELECTED}}}", "{{instance}}")
    return graph(title, description, [query], unit, least=None)
