"""Figures of audited images, against their definitions, one image at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.audit.audited import AuditedImages, AuditWindow
from serving.audit.report import audit_report
from serving.model.shot_groups import GROUPS, shot_groups

EXPERTS = 4
Image = tuple[list[int], int]


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    """Predictions after 1, 2, .. experts, of few classes, and experts taken."""
    prefix = st.lists(st.integers(0, 2), min_size=EXPERTS, max_size=EXPERTS)
    return draw(st.lists(st.tuples(prefix, st.integers(1, EXPERTS)), max_size=30))


def audited_of(found: list[Image]) -> AuditedImages:
    audited = AuditedImages.empty(len(found), EXPERTS)
    for row, (predictions, used) in enumerate(found):
        audited.predictions[row] = predictions
        audited.experts_used[row] = used
        audited.answers[row] = predictions[used - 1]
        audited.groups[row] = predictions[-1]  # class 0 has many images, 1 medium, 2 few
        audited.accuracy_lost[row] = predictions[used - 1] != predictions[-1]
    return audited


def wasted(predictions: list[int], used: int) -> int:
    """Experts that could have been left out with no consequence, now or later."""
    needed = next(k for k in range(1, EXPERTS + 1) if len(set(predictions[k - 1 :])) == 1)
    return max(0, used - needed)


@given(images())
def test_figures_are_what_their_names_say(found: list[Image]) -> None:
    report = audit_report(audited_of(found))
    assert report.images == len(found)
    agreed = [(p, used) for p, used in found if p[used - 1] == p[-1]]
    assert (report.agreement["all"].count, report.agreement["all"].of) == (len(agreed), len(found))
    for place, group in enumerate(GROUPS):
        assert report.agreement[group].count == sum(p[-1] == place for p, _ in agreed)
        assert report.agreement[group].of == sum(p[-1] == place for p, _ in found)
    for stop in report.stops:
        stopped = [p for p, used in found if used == stop.expert]
        assert stop.missed_help.of == len(stopped)
        assert stop.missed_help.count == sum(p[stop.expert - 1] != p[-1] for p in stopped)
    for flip in report.flips:
        changed = sum(p[flip.expert - 1] != p[flip.expert - 2] for p, _ in found)
        assert (flip.flipped.count, flip.flipped.of) == (changed, len(found))
    each = [wasted(p, used) for p, used in found]
    assert report.wasted_expert_runs == sum(each)
    assert report.wasted.count == sum(runs > 0 for runs in each)
    assert report.expert_runs == sum(used for _, used in found)
    if len(found) > 1:
        missed = 1 - len(agreed) / len(found)
        assert report.accuracy_lost["all"].mean == pytest.approx(missed)


def test_a_model_of_one_expert_agrees_with_itself() -> None:
    audited = AuditedImages.empty(3, 1)
    audited.experts_used[:] = 1
    report = audit_report(audited)
    assert report.agreement["all"].share == 1
    assert (report.stops, report.flips, report.wasted_expert_runs) == ([], [], 0)


def test_the_newest_are_kept() -> None:
    newest = AuditWindow(3, EXPERTS)
    assert len(newest.all()) == 0
    for used in (1, 2, 3, 4):
        newest.add(audited_of([([0, 0, 0, 0], used)]))
    assert sorted(newest.all().experts_used.tolist()) == [2, 3, 4]


def test_shot_groups_are_those_of_the_accuracy_tables() -> None:
    groups = shot_groups([101, 100, 20, 19, 0])
    assert [GROUPS[group] for group in groups] == ["many", "medium", "medium", "few", "few"]
