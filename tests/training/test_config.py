"""Configurations: JSON and back, what is refused, presets and shortened schedules."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.choices import BaseLoss, Dataset, DiversityForm, Precision, TemperatureForm
from training.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    RouterConfig,
    TrainingConfig,
)
from training.errors import CheckpointError, ConfigError
from training.presets import PRESETS, preset

POSITIVE = st.floats(1e-6, 1e6)
WHOLE = st.integers(0, 10**6)

configs = st.builds(
    TrainingConfig,
    preset=st.text(),
    seed=WHOLE,
    precision=st.sampled_from(Precision),
    data=st.builds(
        DataConfig, dataset=st.sampled_from(Dataset), imbalance_factor=POSITIVE, subset_seed=WHOLE
    ),
    model=st.builds(ModelConfig, num_experts=WHOLE, reduced_width=st.booleans()),
    loss=st.builds(
        LossConfig,
        base=st.sampled_from(BaseLoss),
        diversity=st.sampled_from(DiversityForm),
        diversity_weight=st.floats(-10, 10),
        temperature=st.sampled_from(TemperatureForm),
    ),
    optimiser=st.builds(OptimiserConfig, drop_epochs=st.lists(WHOLE).map(tuple)),
    router=st.builds(RouterConfig, threshold=st.floats(0, 1)),
)


@given(configs)
@settings(max_examples=50)
def test_a_configuration_survives_json(config: TrainingConfig) -> None:
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def plain(value: object) -> bool:
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) is list:
        return all(plain(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("name", PRESETS)
def test_a_dictionary_holds_nothing_but_plain_values(name: str) -> None:
    """Not even a subclass of str: a checkpoint is read without importing any class."""
    assert plain(PRESETS[name].to_dict())


@pytest.mark.parametrize("name", PRESETS)
def test_settings_that_still_hold_words_and_tuples_are_read(name: str) -> None:
    assert TrainingConfig.from_dict(asdict(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (None, "seed", "many"),
        (None, "seed", 1.5),
        (None, "precision", "fp8"),
        (None, "preset", 3),
        (None, "optimiser", 3),
        ("data", "dataset", "imagenet"),
        ("model", "num_experts", None),
        ("model", "cosine_classifier", "perhaps"),
        ("loss", "base", ""),
        ("loss", "diversity_weight", [1.0]),
        ("optimiser", "drop_epochs", [160, "late"]),
        ("router", "threshold", "half"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(
    section: str | None, field: str, value: object
) -> None:
    data = preset("cifar100-lt").to_dict()
    (data[section] if section else data)[field] = value
    with pytest.raises(CheckpointError, match=field):
        TrainingConfig.from_dict(data)


@pytest.mark.parametrize("section", [None, "data", "model", "loss", "optimiser", "router"])
def test_an_unknown_field_is_refused(section: str | None) -> None:
    data = preset("cifar100-lt").to_dict()
    (data[section] if section else data)["colour"] = "red"
    with pytest.raises(CheckpointError, match="colour"):
        TrainingConfig.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "cifar100-lt", {}, {"seed": 1}])
def test_something_else_than_a_configuration_is_refused(data: Any) -> None:
    with pytest.raises(CheckpointError, match="configuration is wrong"):
        TrainingConfig.from_dict(data)


def test_the_cifar100_preset_is_the_published_recipe() -> None:
    config = preset("cifar100-lt")
    assert (config.model.num_classes, config.model.num_experts) == (100, 3)
    assert (config.optimiser.epochs, config.optimiser.batch_size) == (200, 128)
    assert (config.optimiser.learning_rate, config.optimiser.weight_decay) == (0.1, 5e-4)
    assert (config.optimiser.drop_epochs, config.optimiser.drop_factor) == ((160, 180), 0.01)
    assert (config.loss.reweighting_epoch, config.loss.diversity_weight) == (160, -0.45)
    assert (config.router.epochs, config.router.batch_size) == (5, 512)
    assert config.router.learning_rate == 0.01


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'cifar'; there are: cifar10-lt, cifar100-lt"):
        preset("cifar")


def test_a_shorter_run_moves_every_milestone() -> None:
    config = preset("cifar100-lt").with_epochs(20)
    assert (config.optimiser.epochs, config.optimiser.drop_epochs) == (20, (16, 18))
    assert config.loss.reweighting_epoch == 16
    assert config.optimiser.warmup_epochs == 5
    assert preset("cifar100-lt").optimiser.epochs == 200


def test_the_published_length_changes_nothing() -> None:
    assert preset("cifar100-lt").with_epochs(200) == preset("cifar100-lt")


@given(st.integers(1, 1000))
def test_milestones_keep_their_order_and_share_at_every_length(epochs: int) -> None:
    config = preset("cifar100-lt").with_epochs(epochs)
    first, second = config.optimiser.drop_epochs
    assert 0 <= config.optimiser.warmup_epochs <= first <= second <= epochs
    assert abs(first - 0.8 * epochs) <= 0.5
    assert abs(second - 0.9 * epochs) <= 0.5
    assert config.loss.reweighting_epoch == first
