"""A real Prometheus scrapes a live server: every query of the dashboard and the rules has data."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.status_codes import FAULTS, REFUSALS
from tests.checkout import ROOT
from tests.monitoring.conftest import NO_PROMETHEUS, PanelQuery
from tests.running.prometheus import CONFIGURATION, RunningPrometheus, find

RUNBOOKS = ROOT / "docs" / "runbooks.md"
UNIT_TESTS = Path(__file__).with_name("alerts_test.yml")


def promtool(*arguments: object) -> str:
    program = find("promtool")
    if program is None:
        pytest.skip(NO_PROMETHEUS)
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def rules(prometheus: RunningPrometheus, kind: str) -> list[dict[str, Any]]:
    found = [rule for rule in prometheus.rules() if rule["type"] == kind]
    assert found
    return found


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "2 rule files found" in promtool("check", "config", CONFIGURATION / "prometheus.yml")


def test_alerts_fire_when_they_should_and_not_when_they_should_not() -> None:
    promtool("test", "rules", UNIT_TESTS)


def test_every_alert_is_tested_both_ways(prometheus: RunningPrometheus) -> None:
    cases = re.findall(r"alertname: (\w+)\n +exp_alerts:( \[\])?", UNIT_TESTS.read_text())
    tested = {(name, not nothing) for name, nothing in cases}
    alerts = {rule["name"] for rule in rules(prometheus, "alerting")}
    assert tested == {(alert, fires) for alert in alerts for fires in (True, False)}


def test_every_panel_has_data(prometheus: RunningPrometheus) -> None:
    queries = PanelQuery.all("ride")
    assert len(queries) > 50
    assert not prometheus.without_data(query.expression for query in queries)


def test_every_recorded_series_has_data(prometheus: RunningPrometheus) -> None:
    names = {rule["name"] for rule in rules(prometheus, "recording")}
    assert not prometheus.without_data(names)


def test_every_operand_of_an_alert_has_data(prometheus: RunningPrometheus) -> None:
    """A healthy server raises no alert, so what is asked for is what the alert compares."""
    queries = [rule["query"] for rule in rules(prometheus, "alerting")]
    assert not prometheus.without_data(map(without_filters, queries))


def without_filters(expression: str) -> str:
    """Comparisons answer 0 or 1 instead of leaving series out; "unless" wants its operand there."""
    compared = re.sub(r" (==|!=|<=|>=|<|>) ", r" \1 bool ", expression)
    return compared.replace(" unless ", " and ")


def test_a_healthy_server_raises_no_alert(prometheus: RunningPrometheus) -> None:
    """Not even one that has yet to last. Those that look at the clock or at memory may well be
    pending on a busy machine, with windows of seconds.
    """
    assert not prometheus.without_data(["instance:ride_faults:ratio5m", "ride_drift_detected"])
    by_the_clock = "RideSlow|RideEventLoopBehind|RideRoutingSavesNoTime|RideMemoryGrows"
    assert prometheus.samples(f'ALERTS{{alertname!~"{by_the_clock}"}}') == []


def test_an_alert_says_what_happened_and_where_to_read_on(prometheus: RunningPrometheus) -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    found = {rule["name"]: rule for rule in rules(prometheus, "alerting")}
    assert set(headings) == set(found)
    for name, rule in found.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"


def test_rules_and_panels_mean_the_same_by_faults_and_refusals(
    prometheus: RunningPrometheus,
) -> None:
    found = {rule["name"]: rule["query"] for rule in rules(prometheus, "recording")}
    assert f'{{code=~"{FAULTS}"}}' in found["instance:ride_faults:ratio5m"]
    assert f'{{code=~"{REFUSALS}"}}' in found["instance:ride_refusals:ratio5m"]


def test_latencies_point_to_requests(prometheus: RunningPrometheus) -> None:
    """The server is scraped in OpenMetrics: the older text has no exemplars."""
    assert not prometheus.without_data(["ride_request_duration_seconds_bucket"])
    found = prometheus.data(
        "query_exemplars", query="ride_request_duration_seconds_bucket", start=0, end=2**33
    )
    labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert labels
    assert all(label.keys() <= {"trace_id", "request_id"} for label in labels)


def test_times_of_birth_are_not_stored(prometheus: RunningPrometheus) -> None:
    """OpenMetrics has one for every counter and histogram: twice the series, and no use."""
    assert not prometheus.without_data(["ride_images_total"])
    assert prometheus.samples('{__name__=~".+_created"}') == []
