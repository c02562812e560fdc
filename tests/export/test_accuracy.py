"""The drop is paired: the same images before and after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.accuracy import compare_engines, paired_drop
from export.parity import random_images
from serving.engine.graphs import Engine, load_engine
from serving.model.manifest import Gear
from serving.model.shot_groups import Accuracy
from training.evaluation import Answers


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


def answers(predicted: list[int], experts_used: list[int]) -> Answers:
    asked = np.zeros((len(predicted), 1), dtype=np.float32)
    return Answers(
        np.array(predicted),
        np.ones(len(predicted), dtype=np.float32),
        np.array(experts_used, dtype=np.int32),
        asked,
    )


def test_a_drop_by_hand(engine: Engine) -> None:
    """Right before: images 0 to 2; after: 0 and 3. Differences 0, 1, 1, -1; variance 0.6875."""
    labels = np.array([0, 1, 2, 3])
    before = answers([0, 1, 2, 9], [1, 1, 1, 2])
    after = answers([0, 9, 9, 3], [1, 2, 2, 2])
    drop = paired_drop(before, after, labels, engine.manifest)
    assert drop.before.accuracy.overall == 0.75
    assert drop.after.accuracy.overall == 0.5
    assert drop.drop == 0.25
    assert drop.standard_error == pytest.approx((0.6875 / 4) ** 0.5)
    assert (drop.before.mean_experts, drop.after.mean_experts) == (1.25, 1.75)


def test_an_engine_loses_nothing_against_itself(engine: Engine) -> None:
    images = torch.from_numpy(random_images(engine)[:40])
    labels = torch.arange(40) % 10
    gear = Gear((0.0,), 2.0, 1e8, Accuracy(0.9, None, None, 0.9), "elsewhere")
    gears = {"fast": replace(gear, thresholds=(1.0,)), "balanced": gear, "full": gear}
    geared = replace(engine, manifest=replace(engine.manifest, gears=gears))
    batches = zip(torch.split(images, 16), torch.split(labels, 16), strict=True)
    comparison = compare_engines(geared, geared, batches, "40 images")
    assert comparison.images == 40
    for drop in (comparison.routed, comparison.all_experts):
        assert drop.before == drop.after
        assert (drop.drop, drop.standard_error) == (0, 0)
    assert comparison.all_experts.after.mean_experts == 2
    costs = engine.manifest.multiply_adds
    fast, full = comparison.gears["fast"], comparison.gears["full"]
    assert (fast.thresholds, fast.mean_experts) == ((1.0,), 1)
    assert fast.mean_multiply_adds == costs.spent(1, 1)
    assert full.accuracy.overall == comparison.all_experts.after.accuracy.overall
    assert full.measured_on == "40 images"
