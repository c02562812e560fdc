"""The published settings, by name. every number with its source."""

from __future__ import annotations

from training.config import DataConfig, Dataset, ModelConfig, TrainingConfig
from training.errors import ConfigError

PRESETS = {
    # RIDE, appendix, and the authors' released configurations.
    "cifar100-lt": TrainingConfig(preset="cifar100-lt"),
    "cifar10-lt": TrainingConfig(
        preset="cifar10-lt",
        data=DataConfig(dataset=Dataset.CIFAR10),
        model=ModelConfig(num_classes=10, router_top_logits=10),
    ),
}


def preset(name: str) -> TrainingConfig:
    """The settings under `name`.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
