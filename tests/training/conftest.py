"""A data set small enough to train on in a moment, and the command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ride import main
from tests.conftest import CIFAR10_NAMES
from tests.training.outcome import Outcome, RideTrain
from training.data import ImageSet


@pytest.fixture(scope="session")
def tiny(coloured: Callable[[Tensor, int], Tensor]) -> ImageSet:
    """A long-tailed set of 10 classes, 27 images of 8 by 8 pixels."""
    counts = (6, 5, 4, 3, 2, 2, 2, 1, 1, 1)
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(counts))
    return ImageSet(coloured(labels, 8), labels, CIFAR10_NAMES)


@pytest.fixture
def ride_train_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RideTrain:
    """Runs `ride train` in this process, where torch is already imported."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ride", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code or 0
        assert isinstance(status, int)
        return Outcome(status, *capsys.readouterr())

    return run
