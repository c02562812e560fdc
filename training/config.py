"""What a training run is: frozen dataclasses, saved in its checkpoint, and the presets.

Every number has its source beside it. A configuration is data: it goes to JSON and comes back
through `to_dict` and `from_dict`, which refuses unknown or ill-typed fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from training.errors import CheckpointError, ConfigError

_STRICT = ConfigDict(extra="forbid")


class Dataset(StrEnum):
    """The data sets that `training.data` reads."""

    CIFAR10 = "cifar10"
    CIFAR100 = "cifar100"


class BaseLoss(StrEnum):
    """The loss of one expert on its own."""

    LDAM = "ldam"
    CROSS_ENTROPY = "cross-entropy"


class DiversityForm(StrEnum):
    """Which of the two published forms of the diversity loss is added."""

    MEAN = "mean"  # the authors' code: KL from the mean of all experts
    PAIRWISE = "pairwise"  # the paper, equation 2: KL between every two experts
    NONE = "none"


class TemperatureForm(StrEnum):
    """Which of the two published forms of the distribution-aware temperature is used."""

    CODE = "code"
    PAPER = "paper"


class Precision(StrEnum):
    """Number format of the forward and backward passes; weights and updates stay fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


@dataclass(frozen=True)
class DataConfig:
    """Which images are trained on: n_k = int(n_max * imbalance_factor^(-k/(C-1))) of class k."""

    __pydantic_config__ = _STRICT
    dataset: Dataset = Dataset.CIFAR100
    imbalance_factor: float = 100.0
    subset_seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The network: ResNet-32 cut after stage one, `num_experts` experts."""

    __pydantic_config__ = _STRICT
    num_classes: int = 100
    num_experts: int = 3
    reduced_width: bool = True
    cosine_classifier: bool = True
    router_width: int = 16
    router_top_logits: int = 30


@dataclass(frozen=True)
class LossConfig:
    """Stage one's loss. RIDE, section 3; LDAM-DRW, Cao et al. 2019."""

    __pydantic_config__ = _STRICT
    base: BaseLoss = BaseLoss.LDAM
    max_margin: float = 0.5
    reweighting_beta: float = 0.9999
    reweighting_epoch: int = 160
    diversity: DiversityForm = DiversityForm.MEAN
    diversity_weight: float = -0.45
    temperature: TemperatureForm = TemperatureForm.CODE
    temperature_eta: float = 1.0
    temperature_gamma: float = 0.05


@dataclass(frozen=True)
class OptimiserConfig:
    """SGD with Nesterov momentum, linear warm-up, steps. Epochs count from 0."""

    __pydantic_config__ = _STRICT
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 5
    drop_epochs: tuple[int, ...] = (160, 180)
    drop_factor: float = 0.01


@dataclass(frozen=True)
class RouterConfig:
    """Stage two: the routers learn while everything else is frozen. RIDE, section 3.3."""

    __pydantic_config__ = _STRICT
    epochs: int = 5
    batch_size: int = 512
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    positive_weight: float = 100.0
    negative_weight: float = 1.0
    threshold: float = 0.5


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a run, apart from the data and the machine."""

    __pydantic_config__ = _STRICT
    preset: str
    seed: int = 0
    precision: Precision = Precision.AUTO
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    router: RouterConfig = field(default_factory=RouterConfig)

    def with_epochs(self, epochs: int) -> TrainingConfig:
        """The same schedule squeezed or stretched to `epochs`: every milestone moves along."""
        share = epochs / self.optimiser.epochs
        drops = tuple(round(epoch * share) for epoch in self.optimiser.drop_epochs)
        optimiser = replace(
            self.optimiser,
            epochs=epochs,
            drop_epochs=drops,
            warmup_epochs=min(self.optimiser.warmup_epochs, drops[0] if drops else epochs),
        )
        loss = replace(self.loss, reweighting_epoch=round(self.loss.reweighting_epoch * share))
        return replace(self, optimiser=optimiser, loss=loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for checkpoints and manifests."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain

    @staticmethod
    def from_dict(data: object) -> TrainingConfig:
        """Rebuild a configuration.

        Raises:
            CheckpointError: if a field is unknown, missing or of the wrong type.
        """
        try:
            return _ADAPTER.validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "its configuration"
            raise CheckpointError(
                f"the run's configuration is wrong at {where}: {first['msg']}"
            ) from None


_ADAPTER = TypeAdapter(TrainingConfig)

PRESETS = {
    "cifar100-lt": TrainingConfig(preset="cifar100-lt"),
    "cifar10-lt": TrainingConfig(
        preset="cifar10-lt",
        data=DataConfig(dataset=Dataset.CIFAR10),
        model=ModelConfig(num_classes=10, router_top_logits=10),
    ),
}
"""CIFAR: RIDE, appendix, and the authors' released configurations."""


def preset(name: str) -> TrainingConfig:
    """The published hyper-parameters under `name`.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
