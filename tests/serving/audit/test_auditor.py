"""The auditor with a real engine: it waits for quiet moments, drops what has no room, and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.audit import auditor as auditing
from serving.audit.auditor import Auditor
from serving.engine.graphs import Engine
from serving.metrics.definitions import Server
from serving.metrics.registry import Registry
from tests.running.waiting import wait_until

Pixels = NDArray[np.uint8]


@contextmanager
def auditor_of(engine: Engine, quiet: threading.Event, share: float = 1.0) -> Iterator[Auditor]:
    auditor = Auditor(engine, share, quiet.is_set, Registry(Server.EMBEDDED))
    try:
        yield auditor
    finally:
        auditor.close()


def test_audited_images_are_what_the_engine_says(engine: Engine, pixels: Pixels) -> None:
    quiet = threading.Event()
    quiet.set()
    routed = engine.classify(pixels, engine.rule())
    with auditor_of(engine, quiet) as auditor:
        auditor.consider(pixels, routed)
        wait_until(lambda: auditor.state().audited == len(pixels))
        audited = auditor.audited()
    for prefix in range(1, engine.manifest.num_experts + 1):
        rule = engine.rule(max_experts=prefix, threshold=0.0)
        answers = engine.classify(pixels, rule).probabilities.argmax(axis=1)
        assert audited.predictions[:, prefix - 1].tolist() == answers.tolist()
    assert audited.experts_used.tolist() == routed.experts_used.tolist()
    assert audited.answers.tolist() == routed.probabilities.argmax(axis=1).tolist()
    assert ((audited.router_scores >= 0) & (audited.router_scores <= 1)).all()
    np.testing.assert_allclose(audited.router_scores[:, 0], routed.router_scores[:, 0], atol=1e-5)
    assert (audited.accuracy_lost[audited.agreed] == 0).all()
    assert (audited.accuracy_lost[~audited.agreed] > 0).all()


def test_nothing_runs_under_load_and_what_has_no_room_is_counted(
    engine: Engine, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_MOST_WAITING", 10)
    quiet = threading.Event()
    with auditor_of(engine, quiet) as auditor:
        auditor.consider(pixels, engine.classify(pixels, engine.rule()))
        threading.Event().wait(5 * auditing._LOOK_AGAIN_S)
        state = auditor.state()
        assert (state.sampled, state.audited) == (len(pixels), 0)
        assert state.waiting in {9, 10}  # one may be in hand
        assert 10 <= len(pixels) - state.dropped["full"] <= 11
        quiet.set()
        wait_until(lambda: auditor.state().audited == len(pixels) - state.dropped["full"])


def test_what_waits_at_the_end_is_dropped_and_counted(engine: Engine, pixels: Pixels) -> None:
    with auditor_of(engine, threading.Event()) as auditor:
        auditor.consider(pixels, engine.classify(pixels, engine.rule()))
    state = auditor.state()
    assert (state.waiting, state.audited) == (0, 0)
    assert state.dropped["closed"] == state.sampled == len(pixels)


def test_a_failed_audit_does_not_end_those_to_come(engine: Engine, pixels: Pixels) -> None:
    quiet = threading.Event()
    quiet.set()
    routed = engine.classify(pixels[:2], engine.rule())
    with auditor_of(engine, quiet) as auditor:
        auditor.consider(np.zeros((2, 5, 5, 3), dtype=np.uint8), routed)  # no image of this model
        auditor.consider(pixels[:2], routed)
        wait_until(lambda: auditor.state().audited == 2)
        assert auditor.state().dropped["failed"] == 2


def test_a_share_of_0_starts_no_thread(engine: Engine, pixels: Pixels) -> None:
    before = set(threading.enumerate())
    with auditor_of(engine, threading.Event(), share=0.0) as auditor:
        auditor.consider(pixels, engine.classify(pixels, engine.rule()))
        assert set(threading.enumerate()) <= before
        assert auditor.state().sampled == 0
        assert auditor.state().report.agreement["all"].share is None
