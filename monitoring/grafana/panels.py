"""The few kinds of panels that the dashboard has, so that all of a kind look and act alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
RUNBOOKS = "$runbooks"
"""A variable of the dashboard: where docs/runbooks.md can be read."""

_COLUMNS = 24
_GRAPH_ROWS, _STAT_ROWS = 8, 4

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | bargauge.Panel
AnyPanel = TypeVar("AnyPanel", timeseries.Panel, stat.Panel, heatmap.Panel, bargauge.Panel)


@dataclass(frozen=True)
class Query:
    """A query and what its lines are called; `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class ThresholdStep:
    """From a value on, a colour."""

    value: float
    colour: str


def runbook(alert: str) -> str:
    """A link to an alert's section, in Markdown."""
    return f"[{alert}]({RUNBOOKS}#{alert.lower()})"


def one_number(
    title: str,
    description: str,
    query: str,
    unit: str,
    steps: Sequence[ThresholdStep] = (),
    columns: int = 4,
) -> stat.Panel:
    """The newest value in large digits, over its course."""
    return (
        _framed(stat.Panel(), title, description, columns, _STAT_ROWS)
        .with_target(_target(Query(query), 0))
        .unit(unit)
        .thresholds(_thresholds(steps))
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    most: float | None = None,
    least: float | None = 0,
    stacked: StackingMode = StackingMode.NONE,
    columns: int = _COLUMNS // 3,
) -> timeseries.Panel:
    """Lines over time, from `least` to `most` where these are known."""
    panel = (
        _framed(timeseries.Panel(), title, description, columns)
        .unit(unit)
        .line_width(1)
        .fill_opacity(0 if stacked is StackingMode.NONE else 40)
        .stacking(common.StackingConfig().mode(stacked))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
        )
    )
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    for place, query in enumerate(queries):
        panel.with_target(_target(query, place))
    return panel


def interval_graph(
    title: str, description: str, series: str, unit: str, *, columns: int = _COLUMNS // 3
) -> timeseries.Panel:
    """An estimate with its confidence interval; `series` needs `%s` where the bound's name goes."""
    bounds = [
        Query(series % bound, f"{{{{instance}}}} {bound}")
        for bound in ("estimate", "lower", "upper")
    ]
    panel = graph(title, description, bounds, unit, least=None, columns=columns)
    dashed = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    return panel.override_by_regexp("/(lower|upper)$/", [dashed])


def bars(
    title: str, description: str, query: Query, unit: str, *, columns: int = _COLUMNS // 3
) -> bargauge.Panel:
    """One bar a series, of the whole range that the dashboard shows."""
    return (
        _framed(bargauge.Panel(), title, description, columns)
        .with_target(_target(query, 0).instant())
        .unit(unit)
        .min(0)
        .max(1)
        .orientation(VizOrientation.HORIZONTAL)
        .thresholds(_thresholds(()))
    )


def buckets(
    title: str, description: str, query: str, unit: str, *, columns: int = _COLUMNS // 3
) -> heatmap.Panel:
    """How a histogram's values spread over time; `query` is its buckets' rates by `le`."""
    return (
        _framed(heatmap.Panel(), title, description, columns)
        .with_target(_target(Query(query, "{{le}}"), 0).format(PromQueryFormat.HEATMAP))
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_gap(1)
        .show_legend()
    )


def _framed(
    panel: AnyPanel, title: str, description: str, columns: int, rows: int = _GRAPH_ROWS
) -> AnyPanel:
    framed = panel.title(title).description(description).datasource(DATA_SOURCE)
    return framed.height(rows).span(columns)


def _target(query: Query, place: int) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend or "__auto")
        .datasource(DATA_SOURCE)
        .ref_id(chr(ord("A") + place))
        .range()
    )
    return target.exemplar(True) if query.exemplars else target


def _thresholds(steps: Sequence[ThresholdStep]) -> dashboard.ThresholdsConfig:
    colours = [Threshold(value=None, color="green" if steps else "blue")]
    colours += [Threshold(value=step.value, color=step.colour) for step in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)
