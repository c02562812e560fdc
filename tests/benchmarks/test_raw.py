"""The baselines do the model's own work: their answers are the engine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.images import SampleImages, read_images
from benchmarks.raw import WORKS, load_classifier, run_bare
from serving.engine.graphs import Engine, load_engine


@pytest.fixture(scope="module")
def images() -> SampleImages:
    return read_images(every=40)


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


@pytest.mark.parametrize("work", WORKS)
def test_the_answers_are_the_engines(
    repository: Path, engine: Engine, images: SampleImages, work: str
) -> None:
    classify = load_classifier(work, repository)
    answers = [classify(images.pixels[i : i + 1]) for i in range(len(images))]
    threshold = None if work == "routed" else 0.0
    expected = engine.classify(images.pixels, engine.rule(threshold=threshold))
    assert [used for _, used in answers] == list(expected.experts_used)
    probabilities = np.concatenate([row for row, _ in answers])
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)


def test_threads_share_the_images(repository: Path, engine: Engine, images: SampleImages) -> None:
    result = run_bare("routed", repository, images, threads=2, count=2 * len(images))
    used = engine.classify(images.pixels, engine.rule()).experts_used
    assert result.images == 2 * len(images)
    assert result.mean_experts == pytest.approx(float(used.mean()))
    assert result.images_per_s > 0
    assert result.cpu_ms_per_image > 0


def test_loads_are_whole_passes(images: SampleImages) -> None:
    assert len(images) == 25
    assert [images.passes(count) for count in (0, 20, 26, 1000)] == [25, 25, 25, 1000]
