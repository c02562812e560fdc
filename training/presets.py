"""The published settings, by name. every number with its source."""

from __future__ import annotations

from training.config import (
    BaseLoss,
    DataConfig,
    Dataset,
    DiversityForm,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    ScheduleForm,
    TrainingConfig,
)
from training.errors import ConfigError

PRESETS = {
    # RIDE, appendix, and the authors' released configurations.
    "cifar100-lt": TrainingConfig(preset="cifar100-lt"),
    "cifar10-lt": TrainingConfig(
        preset="cifar10-lt",
        data=DataConfig(dataset=Dataset.CIFAR10),
        model=ModelConfig(num_classes=10, router_top_logits=10),
    ),
    # Ours, for a small budget: balanced softmax (Ren et al. 2020) makes each expert good on its
    # own, a cosine schedule and small images first (Tan and Le 2021) make few epochs go far.
    "cifar100-lt-short": TrainingConfig(
        preset="cifar100-lt-short",
        loss=LossConfig(
            base=BaseLoss.BALANCED_SOFTMAX, reweighting_epoch=None, diversity=DiversityForm.NONE
        ),
        optimiser=OptimiserConfig(
            epochs=44,
            batch_size=64,
            warmup_epochs=2,
            schedule=ScheduleForm.COSINE,
            drop_epochs=(),
            ema_decay=0.998,
            small_epochs=26,
            small_size=24,
        ),
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
