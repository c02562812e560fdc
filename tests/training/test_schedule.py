"""Learning rates of both stages."""

from __future__ import annotations

import pytest

from training.choices import ScheduleForm
from training.config import OptimiserConfig
from training.presets import preset
from training.schedule import cosine, learning_rate


def test_rates_of_the_published_schedule() -> None:
    config = preset("cifar100-lt").optimiser
    warm_up = [0.02, 0.04, 0.06, 0.08, 0.1]
    expected = warm_up + [0.1] * 155 + [1e-3] * 20 + [1e-5] * 20
    assert [learning_rate(config, epoch) for epoch in range(200)] == pytest.approx(expected)


def test_half_the_epochs_pass_the_same_rates_twice_as_fast() -> None:
    full = preset("cifar100-lt")
    half = full.with_epochs(100).optimiser
    rates = [learning_rate(half, epoch) for epoch in range(5, 100)]
    expected = [learning_rate(full.optimiser, 2 * epoch) for epoch in range(5, 100)]
    assert rates == pytest.approx(expected)


def test_without_warm_up_and_drops_the_rate_is_constant() -> None:
    config = OptimiserConfig(warmup_epochs=0, drop_epochs=(), learning_rate=0.3)
    assert {learning_rate(config, epoch) for epoch in range(200)} == {0.3}


def test_a_cosine_starts_at_one_and_ends_at_nothing() -> None:
    assert [cosine(share) for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert cosine(1 / 3) == pytest.approx(0.75)


def test_a_cosine_falls_from_the_full_rate_to_nothing() -> None:
    config = OptimiserConfig(
        epochs=12, warmup_epochs=2, learning_rate=0.4, schedule=ScheduleForm.COSINE
    )
    rates = [learning_rate(config, epoch) for epoch in range(12)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[7] == pytest.approx(0.2)  # halfway between epochs 2 and 12
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[11] < 0.02
