"""The dashboard, and the file that Grafana reads.

`python -m monitoring.grafana.dashboard` writes dashboard.json after a change.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from monitoring.grafana.panels import DATA_SOURCE, RUNBOOKS
from monitoring.grafana.rows import audit, drift, latency, load, overview, routing, savings, servers
from serving.metrics import definitions as define
from serving.metrics.definitions import Metric

FILE = Path(__file__).with_name("dashboard.json")
_ROWS: tuple[ModuleType, ...] = (
    overview,
    routing,
    savings,
    latency,
    load,
    audit,
    drift,
    servers,
)


def build() -> Dashboard:
    """All rows under the variables that choose what they show."""
    page = (
        builders.Dashboard("RIDE: experts per image, and what they save and cost")
        .uid("ride")
        .tags(["ride", "inference"])
        .description("Everything that docs/metrics.md lists. docs/monitoring.md explains the rows.")
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for variable in _variables():
        page.with_variable(variable)
    identities = itertools.count(1)
    for row in _ROWS:
        page.with_row(builders.Row(row.TITLE).id(next(identities)))
        for panel in row.panels():
            page.with_panel(panel.id(next(identities)))
    return page.build()


def to_json(page: Dashboard) -> str:
    """The text of dashboard.json."""
    return JSONEncoder(indent=2, sort_keys=True).encode(page) + "\n"


def _variables() -> list[
    builders.DatasourceVariable | builders.QueryVariable | builders.TextBoxVariable
]:
    job, instance = 'job="$job"', 'instance=~"$instance"'
    return [
        builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        _values_of(define.IMAGES, "job").label("Job"),
        _every(_values_of(define.IMAGES, "instance", job)).label("Server"),
        _every(_values_of(define.VERSION_IMAGES, "version", f"{job}, {instance}")).label("Version"),
        _every(_values_of(define.ROUTER_THRESHOLD, "router", f"{job}, {instance}")).hide(
            VariableHide.HIDE_VARIABLE
        ),
        builders.TextBoxVariable(RUNBOOKS.removeprefix("$"))
        .label("Runbooks")
        .description("Where docs/runbooks.md can be read, for the links in descriptions.")
        .default_value("docs/runbooks.md"),
    ]


def _values_of(metric: Metric, label: str, where: str = "") -> builders.QueryVariable:
    series = f"{metric.series}{{{where}}}" if where else metric.series
    return (
        builders.QueryVariable(label)
        .datasource(DATA_SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NUMERICAL_ASC)
    )


def _every(variable: builders.QueryVariable) -> builders.QueryVariable:
    """Any number of values can be chosen, and all are to begin with."""
    everything = VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(True).include_all(True).current(everything)


def main() -> None:
    """Write dashboard.json."""
    FILE.write_text(to_json(build()))


if __name__ == "__main__":
    main()
