"""Reading the CSV that perf_analyzer writes; tests/serving runs the program itself."""

from __future__ import annotations

import pytest

from benchmarks.errors import LoadFailed
from benchmarks.perf_analyzer import parse_report

LATENCIES = "p50 latency,p90 latency,p95 latency,p99 latency,Avg latency"
PLAIN = f"""\
Concurrency,Inferences/Second,Client Send,Client Recv,{LATENCIES}
4,199.302,13,5,18000,21500,23000,25250,20000
8,250,13,5,30000,33000,35000,41000,32000
"""
SERVER = "Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output"
WITH_STATISTICS = f"""\
Request Rate,Inferences/Second,Network+Server Send/Recv,{SERVER},Server Cache Hit,{LATENCIES}
75.5,74.9,90,250,12,1800,8,,2000,2200,2400,3000,2100
"""


def test_each_line_is_a_load() -> None:
    four, eight = parse_report(PLAIN)
    assert (four.load, four.mean_ms) == (4, 20)
    assert (four.p50_ms, four.p90_ms, four.p99_ms) == (18, 21.5, 25.25)
    assert (eight.load, eight.p50_ms) == (8, 30)
    assert four.server_ms == {}


def test_clients_that_wait_for_answers_make_a_request_in_each_mean_latency() -> None:
    assert [report.requests_per_s for report in parse_report(PLAIN)] == [200, 250]


def test_a_server_with_statistics_tells_of_itself() -> None:
    (report,) = parse_report(WITH_STATISTICS)
    assert (report.load, report.requests_per_s) == (75.5, 74.9)
    assert report.server_ms == {
        "Queue": 0.25,
        "Compute Input": 0.012,
        "Compute Infer": 1.8,
        "Compute Output": 0.008,
    }


@pytest.mark.parametrize(
    "text",
    ["", "Concurrency\n", "Concurrency\n4\n", PLAIN.replace("18000", "fast"), PLAIN[:-20]],
    ids=["nothing", "no line", "no columns", "no number", "cut short"],
)
def test_a_report_without_figures_is_refused(text: str) -> None:
    with pytest.raises(LoadFailed, match="perf_analyzer's report"):
        parse_report(text)
