"""The training benchmark: it times whole steps, and counts the work that they must do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.studies import training_speed
from benchmarks.studies.training_speed import time_steps
from training.choices import Precision
from training.config import DataConfig, OptimiserConfig
from training.device import ComputeDevice
from training.presets import preset
from training.processes import Processes


def test_speed_is_that_of_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "_PEAK_S", 0.2)  # rough, and far above what is reached here
    config = replace(
        preset("cifar100-lt-short"),
        data=DataConfig(image_size=8, resize_shorter_side=8),
        optimiser=OptimiserConfig(batch_size=4, ema_decay=0.9),
    )
    cpu = ComputeDevice(torch.device("cpu"), Precision.FP32)
    speed = time_steps(config, cpu, Processes(), warm_up=1, steps=2)
    assert 0 < speed.seconds_a_step < 60
    assert 0 < speed.operations / speed.seconds_a_step < speed.peak
    # The trunk and three experts have 24.04 and 25.44 M multiply-adds at 32 by 32 pixels.
    forward = (24.04e6 + 3 * 25.44e6) / 4**2
    assert speed.operations == pytest.approx(3 * 2 * 4 * forward, rel=3e-3)
