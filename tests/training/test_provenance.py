"""What a checkpoint says of where it came from."""

from __future__ import annotations

import json
import re

import pytest
import torch

from training.choices import Precision
from training.device import choose_device
from training.presets import preset
from training.provenance import describe_schedule, provenance


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        (200, "the preset's 200 epochs"),
        (45, "shortened: 45 epochs, the preset has 200"),
        (400, "lengthened: 400 epochs, the preset has 200"),
    ],
)
def test_a_changed_schedule_is_told(epochs: int, said: str) -> None:
    assert describe_schedule(preset("cifar100-lt").with_epochs(epochs)) == said


def test_it_is_plain_and_complete() -> None:
    origin = provenance(preset("cifar10-lt"), choose_device("cpu", Precision.FP32))
    assert json.loads(json.dumps(origin)) == origin
    assert origin["precision"] == "fp32"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(origin["started"]))
    versions = origin["versions"]
    assert isinstance(versions, dict)
    assert torch.__version__.startswith(versions["torch"])


def test_a_tree_without_its_repository_can_be_told_its_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCE_COMMIT", "0123456789ab")
    origin = provenance(preset("cifar10-lt"), choose_device("cpu", Precision.FP32))
    assert origin["commit"] == "0123456789ab"
