"""Reading the CSV that perf_analyzer writes; tests/serving runs the program itself."""

from __future__ import annotations

import pytest

from benchmarks.errors import LoadFailed
from benchmarks.perf_analyzer import PerfReport, parse_report

REPORT = """\
Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency,Avg latency
4,199.302,13,18000,21500,25250,20000
"""


def test_clients_that_wait_for_answers_make_a_request_in_each_mean_latency() -> None:
    assert parse_report(REPORT) == PerfReport(200, mean_ms=20, p50_ms=18, p99_ms=25.25)


@pytest.mark.parametrize(
    "text",
    ["", "Concurrency\n", "Concurrency\n4\n", REPORT.replace("18000", "fast"), REPORT[:-20]],
    ids=["nothing", "no line", "no columns", "no number", "cut short"],
)
def test_a_report_without_figures_is_refused(text: str) -> None:
    with pytest.raises(LoadFailed, match="perf_analyzer's report"):
        parse_report(text)
