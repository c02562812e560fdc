"""Settings that make no sense are refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from training.checks import check_config
from training.choices import Dataset
from training.config import AugmentationConfig, DataConfig, LossConfig, TrainingConfig
from training.errors import ConfigError
from training.presets import preset

BASE = preset("cifar100-lt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_margin", -0.1),
        ("focal_gamma", -1.0),
        ("focal_gamma", math.nan),
        ("temperature_gamma", -0.05),
        ("temperature_eta", 0.0),
        ("distillation_weight", -1.0),
        ("distillation_temperature", 0.0),
        ("distillation_temperature", math.inf),
        ("consistency_weight", -0.6),
        ("consistency_temperature", -1.0),
        ("reweighting_beta", 1.0),
        ("reweighting_beta", -0.1),
        ("reweighting_epoch", -1),
        ("diversity_weight", math.nan),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^loss\.{name} is {value}; it must be "):
        check_config(replace(BASE, loss=replace(LossConfig(), **{name: value})))


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(diversity_weight=0.3, reweighting_epoch=None, reweighting_beta=0.0),
        LossConfig(max_margin=0.0, focal_gamma=0.0, temperature_gamma=0.0, reweighting_epoch=0),
    ],
)
def test_numbers_at_the_edge_of_their_range_are_accepted(config: LossConfig) -> None:
    check_config(replace(BASE, loss=config))


@pytest.mark.parametrize("name", ["prior_strengths", "inverse_prior_strengths"])
@pytest.mark.parametrize("strengths", [(), (1.0, 2.0), (1.0, 2.0, 3.0, 4.0)])
def test_strengths_for_another_number_of_experts_are_refused(
    name: str, strengths: tuple[float, ...]
) -> None:
    loss = replace(LossConfig(), **{name: strengths})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"loss\.{name} has {len(strengths)} numbers"):
        check_config(replace(BASE, loss=loss))


@pytest.mark.parametrize("strength", [math.nan, math.inf])
def test_a_strength_that_is_not_finite_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"loss\.prior_strengths must hold finite numbers"):
        check_config(replace(BASE, loss=LossConfig(prior_strengths=(strength,))))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(BASE, seed=-1), r"seed must lie between 0 and"),
        (replace(BASE, seed=2**32), r"seed must lie between 0 and"),
        (replace(BASE, augmentation=AugmentationConfig(color_jitter=-1.0)), "color_jitter"),
        (replace(BASE, augmentation=AugmentationConfig(color_jitter=math.nan)), "color_jitter"),
        (replace(BASE, model=replace(BASE.model, router_top_logits=0)), "router_top_logits"),
    ],
    ids=str,
)
def test_what_only_set_can_reach_is_checked_too(config: TrainingConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_config(config)


@pytest.mark.parametrize("factor", [0.5, 0.0, -3.0, math.nan, math.inf])
def test_a_factor_that_is_no_imbalance_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="imbalance factor must be a number from 1 on"):
        check_config(replace(BASE, data=DataConfig(imbalance_factor=factor)))


@pytest.mark.parametrize("dataset", [each for each in Dataset if not each.startswith("cifar")])
def test_an_imbalance_factor_is_for_cifar_only(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=f"{dataset} is taken as it is"):
        check_config(replace(BASE, data=DataConfig(dataset=dataset, imbalance_factor=4.0)))
