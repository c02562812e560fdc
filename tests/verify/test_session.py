"""Engines that agree, and engines that really do not: other thresholds, limits, models."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from serving.engine.graphs import Engine
from tests.model_versions import add_version
from tests.running.server import RunningServer
from tests.verify.conftest import BUNDLED_RUN, EXAMPLES
from training.checkpoint import load_checkpoint, save_checkpoint
from verify.errors import VerificationError
from verify.report import VerificationReport
from verify.request import VerificationRequest
from verify.session import verify_session

Pixels = NDArray[np.uint8]


def verify(request: VerificationRequest) -> tuple[VerificationReport, str]:
    """What was found, and what was printed."""
    printed = io.StringIO()
    return verify_session(request, Console(file=printed, width=80)), printed.getvalue()


def test_every_engine_answers_the_same(
    repository: Path, server: RunningServer, cifar_images: Path
) -> None:
    report, printed = verify(
        VerificationRequest(cifar_images, repository, run=BUNDLED_RUN, server=server.grpc_address)
    )
    assert [agreement.engine for agreement in report.engines] == [
        "torch",
        "ride-server: ride",
        "ride-server: ride_image",
    ]
    for agreement in report.engines:
        assert (agreement.images, agreement.differences.count) == (50, 0)
        assert agreement.same_top_1 == agreement.same_experts == 50 - agreement.ties.count
        assert agreement.max_probability_difference < 1e-4
    assert "No difference from the embedded engine." in printed
    assert set(report.circumstances.versions) == {"ride-server", "onnxruntime", "torch"}
    assert report.circumstances.server == "ride-server 0.1.0"


def test_other_thresholds_are_differences(
    altered: Callable[..., Path],
    server: RunningServer,
    cifar_images: Path,
    engine: Engine,
    pixels: Pixels,
    tmp_path: Path,
) -> None:
    """The repository stops every image after one expert; the server and the run do not."""
    used = engine.classify(pixels, engine.rule()).experts_used
    one_expert = altered(thresholds=[1.0, 1.0])
    report, printed = verify(
        VerificationRequest(
            cifar_images,
            one_expert,
            run=BUNDLED_RUN,
            server=server.grpc_address,
            report=tmp_path / "report.md",
            json=tmp_path / "report.json",
        )
    )
    further = int((used > 1).sum())
    assert further > 20
    for agreement in report.engines:
        assert agreement.differences.count == further
        assert agreement.same_experts == 50 - further
        assert len(agreement.differences.first) == 20
        assert agreement.differences.first[0].image == f"row {np.flatnonzero(used > 1)[0]}"
        assert ", 1 expert, " in agreement.differences.first[0].reference
        assert "its threshold is 1.00000" in agreement.differences.first[0].why
    assert f"torch, differences: {further}" in printed
    assert f"and {further - 20} more" in printed
    assert f"Differences from the embedded engine: {3 * further}." in printed
    page = (tmp_path / "report.md").read_text()
    assert (
        f"\n## torch, differences: {further}\n\n| image | embedded engine | torch | why |" in page
    )
    assert page.count("\n| row ") == 60
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["agree"] is False
    assert document["engines"][0]["differences"]["count"] == further
    assert len(document["engines"][0]["differences"]["first"]) == 20


def test_a_threshold_right_at_a_score_is_a_tie(
    altered: Callable[..., Path],
    server: RunningServer,
    cifar_images: Path,
    engine: Engine,
    pixels: Pixels,
) -> None:
    """The repository's threshold is just above one image's score, which lets the others go on."""
    first, second = engine.manifest.thresholds
    scores = engine.classify(pixels, engine.rule()).router_scores[:, 0]
    row = int(np.where(scores > first, scores, 2).argmin())
    threshold = float(scores[row]) + 1e-4
    assert int((scores > threshold).sum()) == int((scores > first).sum()) - 1
    report, _ = verify(
        VerificationRequest(
            cifar_images,
            altered(thresholds=[threshold, second]),
            run=BUNDLED_RUN,
            server=server.grpc_address,
        )
    )
    assert not report.differences
    for agreement in report.engines:
        (tie,) = agreement.ties.first
        assert tie.image == f"row {row}"
        assert ", 1 expert, " in tie.reference
        assert "2 experts" in tie.other or "3 experts" in tie.other
        assert agreement.same_experts == 49


def test_files_that_nobody_can_decode_are_refused_by_all(
    repository: Path, server: RunningServer, tmp_path: Path
) -> None:
    whole = sorted(EXAMPLES.glob("*.png"))[:3]
    for example in whole:
        shutil.copy(example, tmp_path)
    (tmp_path / "a|b\x1b[31m.png").write_bytes(whole[0].read_bytes()[:500])
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "empty.jpg").touch()
    report, printed = verify(
        VerificationRequest(tmp_path, repository, run=BUNDLED_RUN, server=server.grpc_address)
    )
    assert (report.images, report.refused.count, report.differences) == (5, 2, 0)
    assert [agreement.images for agreement in report.engines] == [3, 3, 3]
    assert [refused.image for refused in report.refused.first] == [
        r"a|b\x1b[31m.png",
        "deeper/empty.jpg",
    ]
    assert "the PNG image is damaged" in report.refused.first[0].reason
    assert "Refused by all: 2" in printed
    assert "\x1b" not in printed
    assert r"| a\|b\\x1b\[31m.png | the PNG" in report.to_markdown()


@pytest.mark.usefixtures("short_pauses")
def test_what_only_one_engine_refuses_is_a_difference(
    repository: Path, small_server: RunningServer
) -> None:
    """The server takes fewer pixels than the embedded engine."""
    report, _ = verify(VerificationRequest(EXAMPLES, repository, server=small_server.grpc_address))
    pixels, files = report.engines
    assert (pixels.images, pixels.differences.count) == (12, 0)
    assert (files.images, files.differences.count, files.same_top_1) == (12, 12, 0)
    assert "at most 1000 in all are accepted" in files.differences.first[0].other
    assert files.differences.first[0].other.startswith("refused: ")
    assert report.refused.count == 0


def test_probabilities_beyond_the_tolerance_are_differences(
    repository: Path, cifar_images: Path
) -> None:
    """ONNX Runtime and torch add up in other orders, so no two floats need be the same."""
    report, _ = verify(
        VerificationRequest(cifar_images, repository, run=BUNDLED_RUN, tolerance=1e-12)
    )
    assert report.differences > 0
    assert "probabilities differ by" in report.engines[0].differences.first[0].why


def test_a_server_of_another_version_is_an_error(
    altered: Callable[..., Path], server: RunningServer
) -> None:
    newer = altered()
    add_version(newer, 2)
    with pytest.raises(VerificationError, match="with version 1 of ride, and the latest .* is 2"):
        verify(VerificationRequest(EXAMPLES, newer, server=server.grpc_address))


def test_a_run_of_another_model_is_an_error(repository: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(BUNDLED_RUN)
    data = replace(checkpoint.config.data, image_size=40, resize_shorter_side=40)
    larger = replace(checkpoint, config=replace(checkpoint.config, data=data))
    renamed = replace(checkpoint, class_names=checkpoint.class_names[::-1])
    for other, what in ((renamed, "classes differ"), (larger, "image size differs")):
        save_checkpoint(other, tmp_path)
        with pytest.raises(VerificationError, match=f"not exported from {tmp_path}: .* {what}"):
            verify(VerificationRequest(EXAMPLES, repository, run=tmp_path))


def test_there_must_be_something_to_compare_with_and_a_place_for_the_report(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match="a run by --run, a server by --triton, or both"):
        verify(VerificationRequest(EXAMPLES, repository))
    for models in ("", ",", "ride,stage_1"):
        request = VerificationRequest(EXAMPLES, repository, server="localhost:1", models=models)
        with pytest.raises(VerificationError, match="--models takes some of ride, ride_image, "):
            verify(request)
    for place in (tmp_path, tmp_path / "gone" / "report.md"):
        with pytest.raises(VerificationError, match="must be a file, in a folder that exists"):
            verify(VerificationRequest(EXAMPLES, repository, run=BUNDLED_RUN, report=place))
