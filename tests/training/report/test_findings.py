"""What a report finds: the evaluation's own figures, and nothing where nothing is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.model.curves import Curve
from serving.model.shot_groups import accuracy_by_shot
from tests.training.report.made_up import (
    NAMES,
    answers,
    contents_of,
    curve_of,
    full_contents,
    run_of,
)
from training.errors import ConfigError
from training.report import ReportContents
from training.report.findings import MOST_BINS, Findings, find

LABELS = np.arange(120) % 6


def strict_json(findings: Findings) -> Any:
    """Parsed as any other program would: NaN is no JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(findings.to_json(), parse_constant=refuse)


@pytest.fixture(scope="module")
def full() -> ReportContents:
    return full_contents()


def test_each_run_has_two_lines_in_the_order_of_the_runs(full: ReportContents) -> None:
    summaries = find(full).summaries
    assert [(each.name, each.answer) for each in summaries] == [
        (name, answer)
        for name in ("run 0", "run 1", "plain")
        for answer in ("routed", "all experts")
    ]
    assert [each.mean_experts is None for each in summaries] == [False, True] * 3
    assert [each.multiply_adds for each in summaries[::2]] == [84.8e6, 85.8e6, 88.8e6]
    assert {each.multiply_adds for each in summaries[1::2]} == {100.4e6}


def test_accuracy_is_that_of_the_evaluation(full: ReportContents) -> None:
    findings = find(full)
    for run, routed, everything in zip(
        (full.run, *full.baselines), findings.routed, findings.summaries[1::2], strict=True
    ):
        for summary, probabilities in (
            (routed, run.probabilities),
            (everything, run.all_experts),
        ):
            predicted = probabilities.argmax(axis=1)
            expected = accuracy_by_shot(predicted, full.labels, full.class_counts)
            for group in ("overall", "many", "medium", "few"):
                assert summary.accuracy[group] == getattr(expected, group)


def test_experts_are_counted_in_each_group(full: ReportContents) -> None:
    findings = find(full)
    used = full.run.experts_used
    counts = np.asarray(full.class_counts)[full.labels]
    chosen = {
        "overall": counts > 0,
        "many": counts > 100,
        "medium": (counts >= 20) & (counts <= 100),
        "few": counts < 20,
    }
    assert tuple(findings.stopped_after) == tuple(chosen)
    for name, mask in chosen.items():
        expected = [(used[mask] == k).mean() for k in (1, 2, 3)]
        assert findings.stopped_after[name] == pytest.approx(expected)
    assert findings.routed[0].mean_experts == used.mean()


def test_a_shot_group_without_classes_is_nowhere() -> None:
    contents = contents_of(counts=(400, 300, 5), names=("a", "b", "c"))
    contents = replace(contents, repeated_runs=(contents.run, contents.run))
    findings = find(contents)
    groups = ("overall", "many", "few")
    assert findings.groups == groups
    for found in (findings.calibration, findings.spread, findings.routed[0].accuracy):
        assert tuple(found) == groups
    assert "medium" not in findings.to_json()


def test_classes_go_from_the_largest_to_the_smallest() -> None:
    names, counts = ("rare", "common", "middle"), (3, 700, 50)
    labels = np.array([0, 0, 1, 1, 2, 2])
    run = replace(
        run_of("first", labels, 3),
        probabilities=answers([0, 1, 1, 1, 0, 0], 3),
        experts_used=np.array([3, 1, 1, 1, 2, 3], dtype=np.int32),
    )
    other = replace(run_of("second", labels, 3), probabilities=answers([0, 0, 0, 0, 2, 2], 3))
    classes = find(
        contents_of(counts=counts, names=names, labels=labels, run=run, baselines=(other,))
    ).classes
    shown = [(each.name, each.group, each.mean_count, each.classes) for each in classes]
    assert shown == [
        ("common", "many", 700, 1),
        ("middle", "medium", 50, 1),
        ("rare", "few", 3, 1),
    ]
    assert [each.accuracy for each in classes] == [(1.0, 0.0), (0.0, 1.0), (0.5, 1.0)]
    assert [each.stopped_after for each in classes] == [(1, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)]


def test_a_class_without_test_images_is_null_in_the_file() -> None:
    labels = np.array([0, 1, 2, 3, 4] * 4)
    findings = find(contents_of(labels=labels, run=run_of("first", labels, 6)))
    last = findings.classes[-1]
    assert last.name == "fox"
    assert math.isnan(last.accuracy[0])
    written = strict_json(findings)
    assert written["classes"][-1]["accuracy"] == [None]
    assert written["classes"][-1]["stopped_after"] == [None] * 3
    assert [each["name"] for each in written["classes"]] == list(NAMES)


def test_the_file_holds_what_was_found(full: ReportContents) -> None:
    findings, written = find(full), strict_json(find(full))
    assert written["summaries"][0]["accuracy"] == dict(findings.routed[0].accuracy)
    assert written["calibration"]["few"]["error"] == findings.calibration["few"].error
    assert None in written["calibration"]["few"]["accuracy"]
    assert written["spread"]["many"]["variance"] == findings.spread["many"].variance
    assert [curve["name"] for curve in written["curves"]] == ["margin", "random", "oracle"]
    assert len(written["curves"][0]["points"]) == 5


def test_more_classes_than_can_be_shown_are_put_together() -> None:
    classes = 2 * MOST_BINS + 50
    counts = tuple(range(1000, 1000 - classes, -1))
    names = tuple(f"class {i}" for i in range(classes))
    contents = contents_of(counts=counts, names=names, each=2)
    bins = find(contents).classes
    assert len(bins) == MOST_BINS
    assert sum(each.classes for each in bins) == classes
    assert (bins[0].name, bins[0].classes) == ("ranks 1 to 3", 3)
    assert bins[-1].name == f"ranks {classes - 1} to {classes}"
    assert bins[0].mean_count == 999
    right = contents.run.probabilities.argmax(axis=1) == contents.labels
    first = right[np.isin(contents.labels, (0, 1, 2))]
    assert bins[0].accuracy[0] == pytest.approx(first.mean())


def test_calibration_is_of_the_routed_answers() -> None:
    right = replace(run_of("first", LABELS, 6), probabilities=answers(LABELS, 6))
    found = find(contents_of(run=right)).calibration
    assert found["overall"].error == pytest.approx(0.3)
    assert found["overall"].mean_confidence == pytest.approx(0.7)


def test_the_last_expert_counts_though_no_image_needs_it() -> None:
    run = replace(run_of("first", LABELS, 6), experts_used=np.ones(120, dtype=np.int32))
    assert find(contents_of(run=run)).experts == 1
    point = curve_of("margin").points[0]
    findings = find(contents_of(run=run, operating_points={"as evaluated": point}))
    assert findings.experts == 3
    assert findings.stopped_after["few"] == (1, 0, 0)


def test_bias_and_variance_are_of_the_repeated_runs(full: ReportContents) -> None:
    findings = find(full)
    assert findings.repeated_runs == 3
    predicted = [run.probabilities.argmax(axis=1) for run in full.repeated_runs]
    mean = np.mean([(one == full.labels).mean() for one in predicted])
    assert findings.spread["overall"].accuracy == pytest.approx(mean)
    assert findings.spread["overall"].variance > 0


def test_one_run_has_no_spread() -> None:
    run = run_of("first", LABELS, 6)
    assert find(contents_of(run=run, repeated_runs=(run,))).spread == {}
    same = find(contents_of(run=run, repeated_runs=(run, run))).spread
    assert [found.variance for found in same.values()] == [0] * 4


def test_a_curve_without_points_is_left_out() -> None:
    findings = find(contents_of(curves=(Curve("none", ()), curve_of("margin"))))
    assert [curve.name for curve in findings.curves] == ["margin"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": LABELS[:0]}, "has no images"),
        ({"names": NAMES[:5]}, "5 class names, but 6 class counts"),
        ({"baselines": (run_of("short", LABELS[:60], 6),)}, r"'short' has answers .* same test"),
        ({"repeated_runs": (run_of("wide", LABELS, 7),)}, r"'wide' has answers .* by 6 classes"),
        (
            {"run": replace(run_of("r", LABELS, 6), experts_used=np.ones(3, dtype=np.int32))},
            "how many experts",
        ),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        contents_of(**changes)
