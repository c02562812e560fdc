"""Training configurations that make no sense, told before any data is read.

What depends on the data (class sizes, too few images) is told where the data is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from serving.images.formats import ALL
from training.choices import Dataset
from training.config import DataConfig, LossConfig, TrainingConfig
from training.errors import ConfigError

MAX_EXPERTS = 6
_NOT_NEGATIVE = (
    "max_margin",
    "focal_gamma",
    "temperature_gamma",
    "distillation_weight",
    "consistency_weight",
)
_POSITIVE = ("temperature_eta", "distillation_temperature", "consistency_temperature")


def check_config(config: TrainingConfig) -> None:
    """Refuse settings that are out of range or exclude each other.

    Raises:
        ConfigError: naming the first field that is wrong.
    """
    for wrong, message in _contradictions(config):
        if wrong:
            raise ConfigError(message)


def _contradictions(config: TrainingConfig) -> Iterator[tuple[bool, str]]:
    """Conditions that must not hold, each with what to say if it does."""
    data, model, augmentation = config.data, config.model, config.augmentation
    optimiser, classifier = config.optimiser, config.classifier
    yield not 1 <= model.num_experts <= MAX_EXPERTS, f"model.num_experts must be 1 to {MAX_EXPERTS}"
    yield not 8 <= data.image_size <= 1024, "data.image_size must lie between 8 and 1024 pixels"
    yield (
        data.resize_shorter_side < data.image_size,
        "data.resize_shorter_side must not be smaller than data.image_size",
    )
    yield not 0 <= data.holdout <= 0.5, "data.holdout must lie between 0 and 0.5"
    known = bool(data.formats) and set(data.formats) <= set(ALL)
    yield not known, f"data.formats must be some of {', '.join(ALL)}"
    yield not 0 <= config.seed < 2**32, "seed must lie between 0 and 2^32 - 1"
    yield min(model.pixel_std) <= 0, "model.pixel_std must be above 0"
    yield model.router_top_logits < 1, "model.router_top_logits must be 1 or more"
    yield (
        not 0 <= augmentation.color_jitter < math.inf,
        "augmentation.color_jitter must be 0 or a positive number",
    )
    yield augmentation.mixup_alpha < 0, "augmentation.mixup_alpha must not be negative"
    yield (
        bool(augmentation.mixup_alpha and config.loss.consistency_weight),
        "augmentation.mixup_alpha and loss.consistency_weight exclude each other",
    )
    for name, stage in (
        ("optimiser", optimiser),
        ("classifier", classifier),
        ("router", config.router),
    ):
        least = 1 if name == "optimiser" else 0
        yield stage.epochs < least, f"{name}.epochs must be {least} or more"
        yield stage.batch_size < 1, f"{name}.batch_size must be 1 or more"
        yield not 0 < stage.learning_rate < math.inf, f"{name}.learning_rate must be above 0"
        yield not 0 <= stage.momentum < 1, f"{name}.momentum must lie between 0 and 1"
        yield not 0 <= stage.weight_decay < math.inf, f"{name}.weight_decay must not be negative"
    yield (
        not 1 <= optimiser.accumulate <= optimiser.batch_size,
        "optimiser.accumulate must lie between 1 and the batch size",
    )
    yield not 0 <= optimiser.ema_decay < 1, "optimiser.ema_decay must lie between 0 and 1"
    yield (
        list(optimiser.drop_epochs) != sorted(optimiser.drop_epochs),
        "optimiser.drop_epochs must rise",
    )
    yield (
        not 0 <= optimiser.warmup_epochs <= optimiser.epochs,
        "optimiser.warmup_epochs must lie between 0 and the number of epochs",
    )
    yield (
        optimiser.small_epochs > 0 and not 8 <= optimiser.small_size <= data.image_size,
        "optimiser.small_size must lie between 8 and data.image_size",
    )
    yield (
        bool(classifier.tau and model.cosine_classifier),
        "classifier.tau needs model.cosine_classifier=false: cosine weights have no length",
    )
    yield not 0 <= config.router.threshold <= 1, "router.threshold must lie between 0 and 1"
    yield from _data_contradictions(data)
    yield from _loss_contradictions(config.loss, model.num_experts)


def _data_contradictions(data: DataConfig) -> Iterator[tuple[bool, str]]:
    factor = data.imbalance_factor
    if factor is None:
        return
    yield (
        not 1 <= factor < math.inf,
        f"the imbalance factor must be a number from 1 on, not {factor:g}",
    )
    yield (
        data.dataset not in (Dataset.CIFAR10, Dataset.CIFAR100),
        f"an imbalance factor makes CIFAR long-tailed; {data.dataset} is taken as it is",
    )


def _loss_contradictions(loss: LossConfig, num_experts: int) -> Iterator[tuple[bool, str]]:
    def out_of_range(name: str, holds: bool, range_: str) -> tuple[bool, str]:
        return not holds, f"loss.{name} is {getattr(loss, name)}; it must be {range_}"

    for name in _NOT_NEGATIVE:
        yield out_of_range(name, 0 <= getattr(loss, name) < math.inf, "0 or a positive number")
    for name in _POSITIVE:
        yield out_of_range(name, 0 < getattr(loss, name) < math.inf, "a positive number")
    yield out_of_range("reweighting_beta", 0 <= loss.reweighting_beta < 1, "from 0 to below 1")
    yield out_of_range("diversity_weight", math.isfinite(loss.diversity_weight), "a finite number")
    start = loss.reweighting_epoch
    yield out_of_range("reweighting_epoch", start is None or start >= 0, "0 or later, or None")
    for name in ("prior_strengths", "inverse_prior_strengths"):
        strengths = getattr(loss, name)
        many = f"one for all experts or one for each of the {num_experts}"
        yield (
            len(strengths) not in {1, num_experts},
            f"loss.{name} has {len(strengths)} numbers; it must have {many}",
        )
        yield (
            not all(map(math.isfinite, strengths)),
            f"loss.{name} must hold finite numbers, not {strengths}",
        )
