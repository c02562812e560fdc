"""The plots of a report, as SVG that stands in the page and takes the page's text colour.

Matplotlib's object-oriented interface alone: no global figure, no display. The same findings give
the same bytes. Text stays text: it is small, can be searched and selected, and the page sets its
font. Colours are those of Okabe and Ito, "Color Universal Design", 2008, which colour-blind readers
can tell apart: one for each shot group, others for routers.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from serving.model.curves import Curve
from training.report.findings import Findings
from training.report.formats import with_si_prefix, without_control_characters
from training.report.statistics import OVERALL, Floats

INK = "#010203"  # becomes currentColor: the page's own text colour, light or dark
GROUP_COLOURS = {OVERALL: "#888888", "many": "#0072B2", "medium": "#009E73", "few": "#D55E00"}
_ROUTER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00", "#0072B2", "#009E73", "#D55E00")
_MARKERS = "osD^vP"
_BASELINE_TINTS = (0.45, 0.25, 0.1)
_MOST_NAMES = 20
_LONGEST_NAME = 28
_LONGEST_CLASS = 18
_LEGEND_LETTERS = 68  # that fit into a row
_WIDTH = 5.4  # inches; at 10 points' text it can be read on a phone
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so text is measured alike everywhere
    "font.size": 10,
    "text.parse_math": False,  # class names may hold dollars
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Drawing:
    """The inside of an svg element, and its viewBox."""

    view_box: str
    body: Markup


Draw = Callable[[Figure, Findings], None]


def _plot(name: str, height: float) -> Callable[[Draw], Callable[[Findings], Drawing]]:
    """Make of a function that draws into a figure one that gives the finished drawing.

    `name` keeps the ids of one plot apart from those of the others on the page.
    """

    def decorate(draw: Draw) -> Callable[[Findings], Drawing]:
        @wraps(draw)
        def drawn(findings: Findings) -> Drawing:
            with mpl.rc_context(), warnings.catch_warnings():
                mpl.rcdefaults()  # not what the user's own matplotlibrc says
                mpl.rcParams.update(_STYLE)
                mpl.rcParams["svg.hashsalt"] = name
                # The page's font draws what matplotlib's own lacks, say Chinese class names.
                warnings.filterwarnings("ignore", "Glyph .* missing from")
                figure = Figure(figsize=(_WIDTH, height), layout="constrained")
                draw(figure, findings)
                return _drawing(figure)

        return drawn

    return decorate


def _drawing(figure: Figure) -> Drawing:
    """The figure's SVG without what a page can't hold twice or has no use for."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    found = re.search(
        r'<svg [^>]*viewBox="([^"]*)".*?</defs>(.*)</svg>', file.getvalue(), re.DOTALL
    )
    assert found is not None
    body = re.sub(r'<g id="[^"]*"', "<g", found[2]).replace(f": {INK}", ": currentColor")
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), body)
    return Drawing(found[1], Markup(re.sub(r"\n\s*", "\n", body)))  # noqa: S704 - made here


@_plot("accuracy", height=3.2)
def accuracy_by_group(figure: Figure, findings: Findings) -> None:
    """Bars: top-1 of the run and its baselines, by shot group."""
    axes = figure.subplots()
    runs, groups = findings.routed, findings.groups
    width = 0.8 / len(runs)
    for i, run in enumerate(runs):
        places = np.arange(len(groups)) + (i - (len(runs) - 1) / 2) * width
        values = [run.accuracy[group] for group in groups]
        bars = axes.bar(places, values, width * 0.92, **_bar_style(i, groups))
        axes.bar_label(bars, [f"{100 * value:.1f}" for value in values], padding=2, fontsize=8)
        axes.bar(0, 0, label=_short(run.name), **_bar_style(i, (OVERALL,)))
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    _percent(axes.yaxis)
    axes.set_ylabel("Top-1 accuracy")
    if len(runs) > 1:
        _legend_below(figure, axes)


@_plot("compute", height=4.8)
def accuracy_against_compute(figure: Figure, findings: Findings) -> None:
    """Lines: every router's best accuracy at each mean cost; points: runs and settings."""
    axes = figure.subplots()
    for i, curve in enumerate(findings.curves):
        axes.plot(
            [point.mean_multiply_adds for point in curve.points],
            [point.accuracy for point in curve.points],
            label=_short(curve.name),
            **_line_style(i, curve),
        )
    for i, run in enumerate(findings.routed):
        axes.plot(
            run.multiply_adds,
            run.accuracy[OVERALL],
            label=_short(run.name),
            linestyle="",
            marker="X" if i == 0 else "Ps*h"[(i - 1) % 4],
            color=INK,
            markersize=8,
        )
    for number, point in enumerate(findings.operating_points.values(), start=1):
        place = (point.mean_multiply_adds, point.accuracy)
        axes.plot(*place, marker="o", markersize=11, color=INK, fillstyle="none")
        axes.annotate(str(number), place, (0, 9), textcoords="offset points", ha="center")
    axes.margins(y=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: with_si_prefix(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    axes.set_xlabel("Mean multiply-adds of an image")
    axes.set_ylabel("Top-1 accuracy")
    _legend_below(figure, axes)


@_plot("experts-groups", height=2.6)
def experts_by_group(figure: Figure, findings: Findings) -> None:
    """Bars: the share of each shot group's images that stop after 1..K experts."""
    axes = figure.subplots()
    shares = np.array(list(findings.stopped_after.values()))
    left = np.zeros(len(shares))
    for k, colour in enumerate(expert_colours(findings.experts)):
        axes.barh(range(len(shares)), shares[:, k], 0.7, left, color=colour, label=_experts(k))
        left += shares[:, k]
    axes.set_yticks(range(len(shares)), findings.groups)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    _percent(axes.xaxis)
    axes.set_xlabel("Share of images")
    _legend_below(figure, axes)


@_plot("experts-classes", height=3.0)
def experts_by_class(figure: Figure, findings: Findings) -> None:
    """Areas: the same by class, largest class first."""
    axes = figure.subplots()
    shares = np.array([each.stopped_after for each in findings.classes])
    tops = np.cumsum(shares, axis=1)
    for k, colour in enumerate(expert_colours(findings.experts)):
        _steps(axes, tops[:, k] - shares[:, k], tops[:, k], color=colour, label=_experts(k))
    _percent(axes.yaxis)
    axes.set_ylabel("Share of images")
    _class_axis(axes, findings)
    _legend_below(figure, axes)


@_plot("classes", height=4.6)
def accuracy_by_class(figure: Figure, findings: Findings) -> None:
    """Two panels, largest class first: top-1 by class, and how many images it was trained on."""
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    groups = np.array([each.group for each in findings.classes])
    accuracies = np.array([each.accuracy for each in findings.classes])
    counts = np.array([each.mean_count for each in findings.classes])
    zero = np.zeros(len(groups))
    for group in findings.groups[1:]:
        chosen = groups == group
        colour = GROUP_COLOURS[group]
        _steps(above, zero, np.where(chosen, accuracies[:, 0], np.nan), color=colour)
        _steps(below, zero, np.where(chosen, counts, np.nan), color=colour, label=group)
    for baseline in findings.routed[1:2]:
        edges = np.arange(len(groups) + 1) - 0.5
        label = _short(baseline.name)
        above.stairs(accuracies[:, 1], edges, baseline=None, color=INK, linewidth=1, label=label)
    _percent(above.yaxis)
    above.set_ylabel("Top-1 accuracy")
    below.set_yscale("log" if counts.max() > 0 else "linear")
    below.set_ylim(bottom=0.8 if counts.max() > 0 else 0)
    below.minorticks_off()
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    below.set_ylabel("Training\nimages")
    _class_axis(below, findings)
    _legend_below(figure, below, above)


@_plot("calibration", height=4.8)
def reliability(figure: Figure, findings: Findings) -> None:
    """A panel for each shot group: accuracy at each confidence, and the diagonal."""
    groups = findings.calibration
    rows = (len(groups) + 1) // 2
    figure.set_figheight(0.6 + 2.2 * rows)
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (group, found) in zip(panels, groups.items(), strict=False):
        edges = np.linspace(0, 1, len(found.share) + 1)
        colour = GROUP_COLOURS[group]
        axes.bar(edges[:-1], found.accuracy, edges[1], align="edge", color=colour)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        axes.set_title(f"{group}, error {100 * found.error:.1f} %")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        _percent(axes.yaxis)
        _percent(axes.xaxis)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    figure.supxlabel("Confidence", fontsize=10)
    figure.supylabel("Accuracy", fontsize=10)


@_plot("spread", height=2.6)
def bias_and_variance(figure: Figure, findings: Findings) -> None:
    """Three panels: accuracy, bias and variance by shot group."""
    groups = list(findings.spread)
    colours = [GROUP_COLOURS[group] for group in groups]
    panels = figure.subplots(1, 3, sharey=True)
    panels[0].set_ylabel("Share of images")
    for axes, measure in zip(panels, ("accuracy", "bias", "variance"), strict=True):
        values = [getattr(found, measure) for found in findings.spread.values()]
        bars = axes.bar(groups, values, 0.75, color=colours)
        axes.bar_label(bars, [f"{100 * value:.1f}" for value in values], padding=2, fontsize=8)
        axes.set_title(measure)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(visible=False, axis="x")
        _percent(axes.yaxis)


def expert_colours(experts: int) -> list[str]:
    """Dark to bright, to be read as an order."""
    shades = np.linspace(0.2, 0.95, experts)
    return [mpl.colors.to_hex(mpl.colormaps["cividis"](shade)) for shade in shades]


def _line_style(number: int, curve: Curve) -> dict[str, Any]:
    """Routers in colour; hindsight and chance, which are none, in black and grey."""
    if curve.name == "oracle":
        return {"color": INK, "linestyle": "--"}
    if curve.name == "random":
        return {"color": GROUP_COLOURS[OVERALL], "linestyle": ":"}
    return {
        "color": _ROUTER_COLOURS[number % len(_ROUTER_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)] if len(curve.points) <= 30 else "",
        "markersize": 4,
    }


def _bar_style(run: int, groups: Sequence[str]) -> dict[str, Any]:
    """The run's bars are full, those of baselines tints of the same colours."""
    colours = [GROUP_COLOURS[group] for group in groups]
    strength = 1.0 if run == 0 else _BASELINE_TINTS[(run - 1) % len(_BASELINE_TINTS)]
    return {"facecolor": [(colour, strength) for colour in colours], "edgecolor": colours}


def _steps(
    axes: Axes, bottom: Floats, top: Floats, *, color: str, label: str | None = None
) -> None:
    """A filled area with a step for each class; a gap where the top is NaN."""
    places = np.arange(len(top))
    edges = np.stack([places - 0.5, places + 0.5], axis=1).ravel()
    low, high = bottom.repeat(2), top.repeat(2)
    axes.fill_between(edges, low, high, color=color, linewidth=0, label=label)


def _class_axis(axes: Axes, findings: Findings) -> None:
    names = [_short(each.name, _LONGEST_CLASS) for each in findings.classes]
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(visible=False, axis="x")
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks([])
        axes.set_xlabel("Classes, from the largest to the smallest")


def _percent(axis: Axis) -> None:
    axis.set_ticks(np.linspace(0, 1, 5))
    axis.set_view_interval(0, 1, ignore=True)
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _legend_below(figure: Figure, *panels: Axes) -> None:
    named = [panel.get_legend_handles_labels() for panel in panels]
    handles = [handle for panel in named for handle in panel[0]]
    labels = [label for panel in named for label in panel[1]]
    room = _LEGEND_LETTERS // (max(map(len, labels)) + 6)
    columns = min(4, len(labels), max(1, room))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _experts(index: int) -> str:
    return "1 expert" if index == 0 else f"{index + 1} experts"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    name = without_control_characters(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
