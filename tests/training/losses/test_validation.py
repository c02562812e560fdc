"""Settings that make no sense are refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from training.config import LossConfig
from training.errors import ConfigError
from training.losses.validation import check_loss_config


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
        check_loss_config(replace(LossConfig(), **{name: value}))


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(diversity_weight=0.3, reweighting_epoch=None, reweighting_beta=0.0),
        LossConfig(max_margin=0.0, focal_gamma=0.0, temperature_gamma=0.0, reweighting_epoch=0),
    ],
)
def test_numbers_at_the_edge_of_their_range_are_accepted(config: LossConfig) -> None:
    check_loss_config(config)
