"""The dashboard's file is current, Grafana can read it, and it leaves no metric out."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.dashboard import FILE, build, to_json
from serving.metrics.definitions import ALL_METRICS, Kind, Metric
from tests.monitoring.conftest import PanelQuery
from tests.running.prometheus import CONFIGURATION

RULES = [(CONFIGURATION / "rules" / name).read_text() for name in ("recording.yml", "alerts.yml")]
NAME = re.compile(r"\bride_\w+")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    return loaded


def panels(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def series_of(metric: Metric) -> set[str]:
    parts = ("_bucket", "_sum", "_count")
    is_histogram = metric.kind is Kind.HISTOGRAM
    return {metric.name + part for part in parts} if is_histogram else {metric.series}


def test_the_file_is_current() -> None:
    assert FILE.read_text() == to_json(build()), "python -m monitoring.grafana.dashboard"


def test_the_file_is_a_dashboard_of_grafanas_schema(page: dict[str, Any]) -> None:
    """Nothing is lost or renamed on the way through the classes made of that schema."""
    register_default_plugins()
    read = json.loads(to_json(Dashboard.from_json(page)))
    for panel in panels(read):
        if not panel["fieldConfig"]["defaults"].get("custom", True):
            del panel["fieldConfig"]["defaults"]["custom"]  # a heatmap's, which is empty
    assert read == page


def test_every_metric_is_shown_or_watched() -> None:
    used = set(NAME.findall(" ".join([*(q.expression for q in PanelQuery.all("ride")), *RULES])))
    assert not [metric.name for metric in ALL_METRICS if not used & series_of(metric)]


def test_every_panel_says_what_it_shows_and_in_which_unit(page: dict[str, Any]) -> None:
    for panel in panels(page):
        assert len(panel["description"]) > 20, panel["title"]
        heatmap = panel["type"] == "heatmap"
        unit = (
            panel["options"]["yAxis"]["unit"]
            if heatmap
            else (panel["fieldConfig"]["defaults"]["unit"])
        )
        assert unit, panel["title"]


def test_panels_do_not_lie_on_top_of_each_other(page: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_links_to_runbooks_lead_to_an_alert(page: dict[str, Any]) -> None:
    text = " ".join(panel["description"] for panel in panels(page))
    linked = set(re.findall(r"\[(\w+)\]\(\$runbooks#(\w+)\)", text))
    alerts = set(re.findall(r"- alert: (\w+)", RULES[1]))
    assert linked
    assert {name for name, _ in linked} <= alerts
    assert all(anchor == name.lower() for name, anchor in linked)
