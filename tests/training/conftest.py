"""A data set small enough to train on in a moment, and the command in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

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
def ride_train_here(call_ride: Callable[..., subprocess.CompletedProcess[str]]) -> RideTrain:
    """Runs `ride train` in this process, where torch is already imported."""

    def run(*arguments: object) -> Outcome:
        done = call_ride("train", *arguments)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
