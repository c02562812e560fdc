"""PromQL for panels, from the definitions of the metrics: a name that is wrong can't be written."""

from __future__ import annotations

from serving.metrics.definitions import Kind, Metric

SELECTED = 'job="$job", instance=~"$instance"'
"""What the dashboard's variables choose. One job at a time: a server in front of Triton and the
Triton behind it count the same images."""

_BETWEEN_REFRESHES = "$__rate_interval"
_WHOLE_RANGE = "$__range"


def now(metric: Metric, where: str = "") -> str:
    """A gauge of every selected server."""
    return _selected(metric.series, where)


def rate(metric: Metric, by: str = "", where: str = "", part: str = "") -> str:
    """A counter's rise a second, added up; of a histogram `_sum`, `_count` or `_bucket` rises."""
    return _risen("rate", _selected(_counter(metric, part), where), _BETWEEN_REFRESHES, by)


def increase(metric: Metric, by: str = "", where: str = "", part: str = "") -> str:
    """A counter's rise over all that the dashboard shows: for what happens seldom."""
    return _risen("increase", _selected(_counter(metric, part), where), _WHOLE_RANGE, by)


def mean(histogram: Metric, by: str = "") -> str:
    """The mean of a histogram's values."""
    return f"{rate(histogram, by, part='_sum')} / {rate(histogram, by, part='_count')}"


def quantile(share: float, histogram: Metric, by: str = "", where: str = "") -> str:
    """An estimate from a histogram's buckets."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, {rate(histogram, labels, where, '_bucket')})"


def part_of(some: str, everything: str) -> str:
    """A share; 0 rather than nothing where `some` was never counted."""
    return f"({some} or 0 * {everything}) / {everything}"


def _selected(series: str, where: str) -> str:
    return f"{series}{{{SELECTED}{', ' + where if where else ''}}}"


def _counter(metric: Metric, part: str) -> str:
    assert bool(part) is (metric.kind is Kind.HISTOGRAM), metric.name
    return f"{metric.name}{part}" if part else metric.series


def _risen(function: str, selector: str, window: str, by: str) -> str:
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}({function}({selector}[{window}]))"
