"""Settings of a loss that make no sense, told before training starts."""

from __future__ import annotations

import math

from training.config import LossConfig
from training.errors import ConfigError

_NOT_NEGATIVE = (
    "max_margin",
    "focal_gamma",
    "temperature_gamma",
    "distillation_weight",
    "consistency_weight",
)
_POSITIVE = ("temperature_eta", "distillation_temperature", "consistency_temperature")


def check_loss_config(config: LossConfig) -> None:
    """Look at each number on its own.

    The strengths of the priors are looked at where it is known how many experts there are, the
    class-wise temperatures where it is known how large the classes are.

    Raises:
        ConfigError: naming the first field that is out of range.
    """
    for name in _NOT_NEGATIVE:
        _require(config, name, 0 <= getattr(config, name) < math.inf, "0 or a positive number")
    for name in _POSITIVE:
        _require(config, name, 0 < getattr(config, name) < math.inf, "a positive number")
    _require(config, "reweighting_beta", 0 <= config.reweighting_beta < 1, "from 0 to below 1")
    _require(config, "diversity_weight", math.isfinite(config.diversity_weight), "a finite number")
    start = config.reweighting_epoch
    _require(config, "reweighting_epoch", start is None or start >= 0, "0 or later, or None")


def _require(config: LossConfig, name: str, holds: bool, range_: str) -> None:
    if not holds:
        raise ConfigError(f"loss.{name} is {getattr(config, name)}; it must be {range_}")
