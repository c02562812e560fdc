"""`ride calibrate --from-audit`: thresholds that do what is said of them, as a version too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.images import read_images
from serving.audit.proposals import Proposals
from serving.audit.samples import read_samples
from serving.engine.graphs import Engine, load_engine
from serving.errors import AuditError
from serving.metrics.drift import expected_go_on
from serving.model.manifest_json import load_manifest
from serving.model.repository import versions
from tests.running.server import RunningServer

Call = Callable[..., subprocess.CompletedProcess[str]]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def audit(engine: Engine) -> dict[str, Any]:
    """What a server would say that had audited 500 real images."""
    pixels = read_images(every=2).pixels
    prefixes = [
        engine.classify(pixels, engine.rule(max_experts=experts, threshold=0.0))
        for experts in range(1, engine.manifest.num_experts + 1)
    ]
    predictions = [routed.probabilities.argmax(axis=1) for routed in prefixes]
    return {
        "model": "ride",
        "version": "1",
        "thresholds": list(engine.manifest.thresholds),
        "samples": {
            "router_scores": prefixes[-1].router_scores.tolist(),
            "predictions": np.transpose(predictions).tolist(),
        },
    }


@pytest.fixture
def audit_file(audit: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "audit.json"
    file.write_text(json.dumps(audit))
    return file


def agreement(engine: Engine, thresholds: tuple[float, ...]) -> tuple[float, float]:
    """On these images, and mean experts."""
    pixels = read_images(every=2).pixels
    full = engine.classify(pixels, engine.rule(threshold=0.0)).probabilities.argmax(axis=1)
    routed = engine.classify(pixels, engine.rule())
    assert engine.manifest.thresholds == thresholds
    same: NDArray[np.bool_] = routed.probabilities.argmax(axis=1) == full
    return float(same.mean()), float(routed.experts_used.mean())


def test_a_proposal_becomes_a_version_that_does_as_was_said(
    call_ride: Call, audit_file: Path, repository_copy: Path
) -> None:
    wish = ("--repository", repository_copy, "--agreement", "0.97", "--write")
    done = call_ride("calibrate", "--from-audit", audit_file, *wish)
    assert done.returncode == 0, done.stderr
    assert "Wrote version 2" in done.stdout
    assert versions(repository_copy) == [1, 2]
    old, new = (load_manifest(repository_copy, version) for version in (1, 2))
    assert new.thresholds != old.thresholds
    assert new.provenance["calibration_from_audit"]["version"] == 1
    assert expected_go_on(new) != expected_go_on(old)
    assert (new.gears, new.corrections, new.class_names) == (
        old.gears,
        old.corrections,
        old.class_names,
    )
    found, mean_experts = agreement(load_engine(repository_copy, 2), new.thresholds)
    assert found == pytest.approx(0.97, abs=0.04)
    assert mean_experts == pytest.approx(
        float(np.arange(1, 4) @ new.stops.stopped_after) if new.stops else 0, abs=0.2
    )
    assert not list(repository_copy.glob(".ride-*"))


def test_a_budget_is_kept(engine: Engine, audit_file: Path) -> None:
    proposals = Proposals(read_samples(str(audit_file)), engine.manifest.multiply_adds)
    cheap, dear = proposals.within(1.3), proposals.within(2.0)
    assert cheap.mean_experts == pytest.approx(1.3, abs=0.2)
    assert dear.mean_experts == pytest.approx(2.0, abs=0.2)
    assert (cheap.agreement.share or 0) < (dear.agreement.share or 0)
    everything = proposals.reaching(1.0)
    assert everything.agreement.share is not None
    assert everything.agreement.share > 0.95


def test_a_running_server_can_be_asked(
    call_ride: Call, server: RunningServer, repository: Path
) -> None:
    """It has hardly audited anything yet, and says what to do."""
    done = call_ride("calibrate", "--from-audit", server.url, "--repository", repository)
    assert done.returncode == 1
    assert "at least 200 are needed" in done.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda body: body.pop("samples"), "holds no images"),
        (lambda body: body.pop("thresholds"), "thresholds: Field required"),
        (lambda body: body.update(version="../../etc"), "version: "),
        (lambda body: body.update(version="7"), "can't be read"),
        (lambda body: body.update(thresholds=[0.5, 0.5]), "other thresholds"),
        (lambda body: body.update(thresholds=[0.5]), "needs 1 router_scores"),
        (lambda body: body["samples"]["router_scores"].pop(), "needs 2 router_scores"),
        (lambda body: body["samples"]["predictions"][5].pop(), "needs 3 predictions"),
        (lambda body: body["samples"]["predictions"].append("x" * 10**6), "predictions.500"),
        (lambda body: body["samples"].update(router_scores=[[2.0, 0.1]]), "less than or equal"),
        (
            lambda body: body["samples"].update(router_scores=[], predictions=[]),
            "0 images and at least 200",
        ),
    ],
)
def test_what_is_no_audit_is_a_clear_error(
    change: Change,
    problem: str,
    audit: dict[str, Any],
    call_ride: Call,
    tmp_path: Path,
    repository: Path,
) -> None:
    body = json.loads(json.dumps(audit))
    change(body)
    file = tmp_path / "audit.json"
    file.write_text(json.dumps(body))
    done = call_ride("calibrate", "--from-audit", file, "--repository", repository)
    assert done.returncode == 1
    assert problem in done.stderr
    assert len(done.stderr) < 500
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        (("--agreement", "0.9", "--mean-experts", "2"), "give one of them"),
        (("--write",), "--write needs"),
        (("--agreement", "1.5"), "between 0 and 1, not 1.5"),
        (("--agreement", "-1"), "between 0 and 1, not -1"),
        (("--agreement", "nan"), "between 0 and 1, not nan"),
        (("--mean-experts", "0.5"), "a mean of 0.5 can't be"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(
    wish: tuple[str, ...], problem: str, call_ride: Call, audit_file: Path, repository: Path
) -> None:
    done = call_ride("calibrate", "--from-audit", audit_file, "--repository", repository, *wish)
    assert done.returncode == 1
    assert problem in done.stderr


@pytest.mark.parametrize("source", ["nowhere.json", "http://127.0.0.1:1", "http://", "http://[::"])
def test_a_source_that_is_not_there_is_a_clear_error(source: str) -> None:
    with pytest.raises(AuditError, match="can't be read"):
        read_samples(source)
