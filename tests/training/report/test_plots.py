"""The plots: whole SVG, the same each time, whatever names, numbers and settings there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from tests.training.report.made_up import contents_of, curve_of, full_contents, run_of
from training.report import plots
from training.report.findings import Findings, find
from training.report.plots import Drawing

ALL = (
    plots.accuracy_by_group,
    plots.accuracy_against_compute,
    plots.experts_by_group,
    plots.experts_by_class,
    plots.accuracy_by_class,
    plots.reliability,
    plots.bias_and_variance,
)
HOSTILE = '<script>alert("$x^2$ & co")</script>'
Draw = Callable[[Findings], Drawing]


@pytest.fixture(scope="module")
def full() -> Findings:
    return find(full_contents())


@pytest.fixture(scope="module")
def drawings(full: Findings) -> dict[Draw, Drawing]:
    """Every plot of it."""
    return {draw: draw(full) for draw in ALL}


def parsed(drawing: Drawing) -> ElementTree.Element:
    """As the page holds it."""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {spaces} viewBox="{drawing.view_box}">{drawing.body}</svg>'
    return ElementTree.fromstring(svg)


def texts(drawing: Drawing) -> list[str]:
    return ["".join(each.itertext()).strip() for each in parsed(drawing).iter() if is_text(each)]


def is_text(element: ElementTree.Element) -> bool:
    return element.tag.endswith("}text")


@pytest.mark.parametrize("draw", ALL)
def test_a_plot_is_whole_and_takes_the_page_s_colour(
    draw: Draw, drawings: dict[Draw, Drawing]
) -> None:
    drawing = drawings[draw]
    root = parsed(drawing)
    assert len(drawing.view_box.split()) == 4
    assert texts(drawing)
    assert "currentColor" in drawing.body
    assert plots.INK not in drawing.body
    ids = {each.get("id") for each in root.iter()} - {None}
    assert set(re.findall(r"url\(#([^)]*)\)", drawing.body)) <= ids
    assert {link[1:] for each in root.iter() for link in links(each)} <= ids


def links(element: ElementTree.Element) -> list[str]:
    return [value for name, value in element.items() if name.endswith("href")]


@pytest.mark.parametrize("draw", [plots.accuracy_against_compute, plots.experts_by_class])
def test_a_plot_is_the_same_each_time_whatever_the_user_s_settings(
    draw: Draw, full: Findings, drawings: dict[Draw, Drawing]
) -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        again = draw(full)
        assert dict(mpl.rcParams) == before
    assert again == drawings[draw]


def test_bars_tell_the_accuracy_of_every_run_and_group(
    full: Findings, drawings: dict[Draw, Drawing]
) -> None:
    shown = texts(drawings[plots.accuracy_by_group])
    for run in full.routed:
        assert run.name in shown
        assert {f"{100 * value:.1f}" for value in run.accuracy.values()} <= set(shown)
    assert set(full.groups) <= set(shown)


def test_the_curves_have_names_units_and_numbered_points(
    full: Findings, drawings: dict[Draw, Drawing]
) -> None:
    shown = texts(drawings[plots.accuracy_against_compute])
    assert {"margin", "random", "oracle", "run 0", "run 1", "plain", "1"} <= set(shown)
    assert any("ultiply-adds" in text for text in shown)
    assert "Top-1 accuracy" in shown
    assert any(re.fullmatch(r"\d+ M", text) for text in shown)


def test_experts_are_told_apart(full: Findings, drawings: dict[Draw, Drawing]) -> None:
    for draw in (plots.experts_by_group, plots.experts_by_class):
        drawing = drawings[draw]
        assert {"1 expert", "2 experts", "3 experts"} <= set(texts(drawing))
        colours = plots.expert_colours(3)
        assert len(set(colours)) == 3
        assert all(colour in drawing.body for colour in colours)


def test_classes_are_named_where_there_is_room(
    full: Findings, drawings: dict[Draw, Drawing]
) -> None:
    for draw in (plots.experts_by_class, plots.accuracy_by_class):
        assert [text for text in texts(drawings[draw]) if text in {"apple", "fox"}] == [
            "apple",
            "fox",
        ]
    many = contents_of(counts=tuple(range(60, 0, -1)), names=tuple(f"c{i}" for i in range(60)))
    shown = texts(plots.accuracy_by_class(find(many)))
    assert "c0" not in shown
    assert any("from the largest" in text for text in shown)


def test_chance_and_hindsight_look_like_no_router(drawings: dict[Draw, Drawing]) -> None:
    body = drawings[plots.accuracy_against_compute].body
    assert body.count("stroke-dasharray") >= 4  # a line and a legend entry for each
    assert len(set(re.findall(r"stroke: (#[0-9a-f]{6})", body))) == 2  # margin, and grey


def test_calibration_and_spread_show_their_numbers(
    full: Findings, drawings: dict[Draw, Drawing]
) -> None:
    titles = texts(drawings[plots.reliability])
    for group, found in full.calibration.items():
        assert f"{group}, error {100 * found.error:.1f} %" in titles
    bars = texts(drawings[plots.bias_and_variance])
    for spread in full.spread.values():
        assert {f"{100 * value:.1f}" for value in (spread.bias, spread.variance)} <= set(bars)


@pytest.mark.parametrize("draw", ALL[:5])
def test_names_are_text_and_nothing_else(draw: Draw) -> None:
    names = (HOSTILE, "犬", "$\\frac{1}{2}$", "a\x00b\ud800", "__", "e" * 300)
    labels = np.arange(120) % 6
    run = run_of(HOSTILE, labels, 6)
    findings = find(
        contents_of(names=names, run=run, baselines=(run,), curves=(curve_of(HOSTILE),))
    )
    drawing = draw(findings)
    assert "<script" not in drawing.body
    assert not any(each.tag.endswith("script") for each in parsed(drawing).iter())
    assert all(len(text) < 60 for text in texts(drawing))


CASES: dict[str, dict[str, Any]] = {
    "one image of one of six classes": {"labels": np.array([2])},
    "one group, no training images": {"counts": (0, 0), "names": ("a", "b")},
    "one class": {"counts": (7,), "names": ("only",)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("draw", ALL)
def test_a_plot_bears_what_there_is_little_of(draw: Draw, case: str) -> None:
    changes = CASES[case]
    classes = len(changes.get("counts", range(6)))
    labels = changes.get("labels", np.arange(20 * classes) % classes)
    run = single(labels) if classes == 1 else run_of("first", labels, classes)
    contents = contents_of(**{"labels": labels, "run": run, **changes})
    drawing = draw(find(replace(contents, repeated_runs=(run, run))))
    parsed(drawing)
    assert "nan" not in drawing.body.casefold()


def single(labels: Any) -> Any:
    """A run that knows one class."""
    two = run_of("first", labels, 2)
    certain = np.ones((len(labels), 1), dtype=np.float32)
    return replace(two, probabilities=certain, all_experts=certain)
