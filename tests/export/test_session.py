"""`ride export`, from a run's folder to a repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from export.errors import ExportError
from export.session import build_manifest, export_session
from serving.model.manifest import ImageSpec
from serving.model.manifest_json import load_manifest
from training.checkpoint import Checkpoint, Position, Stage, save_checkpoint
from training.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("short_networks")

CONSOLE = Console(quiet=True)


def test_the_manifest_tells_where_the_model_came_from(
    repository: Path, finished: Checkpoint
) -> None:
    manifest = load_manifest(repository, 1)
    assert manifest.class_names == finished.class_names
    assert manifest.class_counts == finished.class_counts
    assert manifest.thresholds == (0.5,)
    assert manifest.evaluation == {}
    assert manifest.provenance["config"] == finished.config.to_dict()
    assert manifest.provenance["training"] == {"commit": "none"}


def test_the_gears_that_ride_route_chose_are_exported(finished: Checkpoint) -> None:
    gear = {
        "thresholds": [0.25],
        "mean_experts": 1.5,
        "mean_multiply_adds": 7e7,
        "accuracy": {"overall": 0.5, "many": None, "medium": 0.5, "few": 0.5},
        "measured_on": "30 test images of cifar10",
    }
    routing = {"thresholds": [0.5], "gears": dict.fromkeys(("fast", "balanced", "full"), gear)}
    routed = replace(finished, routing=routing)
    manifest = build_manifest(routed, routed.build_model(), {})
    assert set(manifest.gears) == {"fast", "balanced", "full"}
    assert manifest.gears["fast"].thresholds == (0.25,)
    assert manifest.gears["fast"].measured_on == "30 test images of cifar10"


def test_multiply_adds_are_counted(repository: Path) -> None:
    """By hand: a 3x3 convolution costs 9 * in * out a pixel; classifier and router are products."""
    costs = load_manifest(repository, 1).multiply_adds
    stage1 = 1024 * 9 * (3 * 16 + 2 * 16 * 16)
    stage2 = 256 * 9 * (16 * 24 + 24 * 24)
    stage3 = 64 * 9 * (24 * 48 + 48 * 48)
    assert costs.backbone == stage1
    assert costs.experts == (stage2 + stage3 + 48 * 10,) * 2
    assert costs.routers == (48 * 16 + 26,)


def test_images_are_prepared_as_in_training(finished: Checkpoint) -> None:
    data = replace(finished.config.data, image_size=40, resize_shorter_side=46)
    larger = replace(finished, config=replace(finished.config, data=data))
    manifest = build_manifest(larger, larger.build_model(), {})
    assert manifest.image == ImageSpec(40, 40, 46, "bilinear")
    assert manifest.multiply_adds.backbone == 40 * 40 * 9 * (3 * 16 + 2 * 16 * 16)


@pytest.mark.parametrize(("size", "side"), [(0, 32), (100_000, 100_000), (40, 32)])
def test_an_image_size_that_cannot_be_served_is_refused(
    finished: Checkpoint, size: int, side: int
) -> None:
    data = replace(finished.config.data, image_size=size, resize_shorter_side=side)
    wrong = replace(finished, config=replace(finished.config, data=data))
    with pytest.raises(ExportError, match="the run's image size can't be served"):
        build_manifest(wrong, wrong.build_model(), {})


def test_an_unfinished_run_is_refused(finished: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(replace(finished, position=Position(Stage.ROUTERS, 2, 5)), tmp_path)
    with pytest.raises(CheckpointError, match="is not finished"):
        export_session(tmp_path, tmp_path / "target", data=None, console=CONSOLE)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(json.dumps({"checkpoint_sha256": "0" * 64}), "earlier checkpoint"), ("[", "damaged")],
)
def test_an_evaluation_of_something_else_is_refused(
    finished: Checkpoint, tmp_path: Path, content: str, problem: str
) -> None:
    save_checkpoint(finished, tmp_path)
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ExportError, match=problem):
        export_session(tmp_path, tmp_path / "target", data=None, console=CONSOLE)


def test_the_command_line_names_what_is_wrong(
    run: Path, tmp_path: Path, call_ride: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for arguments, problem in (
        ((tmp_path / "gone", tmp_path / "target"), "there is no checkpoint"),
        ((run, tmp_path), "is not a model repository"),
        ((tmp_path / "notes.txt", tmp_path / "target"), "not a checkpoint"),
    ):
        done = call_ride("export", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("ride: ")
        assert problem in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr
