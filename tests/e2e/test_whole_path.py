"""A newcomer's path with the commands of the README, on small made-up data."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Ride = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.slow
def test_train_evaluate_export_classify(
    cifar10_folder: Path, tmp_path: Path, call_ride: Ride, run_ride: Ride
) -> None:
    """Export is a process of its own here, the other commands are so in their own tests."""

    def ride(*arguments: object, call: Ride = call_ride) -> str:
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run, repository = tmp_path / "run", tmp_path / "model_repository"
    ride(
        *("train", "--preset", "cifar10-lt", "--data", cifar10_folder, "--output", run),
        *("--epochs", "1", "--batch-size", "8", "--imbalance-factor", "4", "--experts", "2"),
    )
    evaluation = json.loads(ride("evaluate", run, "--data", cifar10_folder, "--json"))
    assert evaluation["images"] == 30
    assert evaluation["all_experts"]["stopped_after"] == [0.0, 1.0]
    assert evaluation["routed"]["accuracy"]["many"] is None, "no class has over 100 images"
    assert "Parity with torch on 30 test images" in ride(
        "export", run, repository, "--data", cifar10_folder, call=run_ride
    )
    manifest = json.loads((repository / "ride" / "1" / "manifest.json").read_text())
    assert manifest["evaluation"]["routed"] == evaluation["routed"]
    assert manifest["provenance"]["training"]["schedule"].startswith("shortened: 1 epochs")
    answer = json.loads(
        ride("classify", _picture(tmp_path), "--repository", repository, "--json", "--top-k", "3")
    )
    assert len(answer["labels"]) == 3
    assert answer["experts_used"] in (1, 2)


def _picture(folder: Path) -> Path:
    path = folder / "photo.jpg"
    Image.effect_mandelbrot((320, 200), (-3, -2.5, 2, 2.5), 20).convert("RGB").save(path)
    return path
