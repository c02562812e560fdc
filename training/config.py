"""What a training run is: frozen dataclasses, saved in its checkpoint.

A configuration is data: it goes to JSON and comes back through `to_dict` and `from_dict`, which
refuse unknown or ill-typed fields. The published settings are in `training.presets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from serving.images.formats import BY_DEFAULT
from training.choices import (
    BaseLoss,
    Dataset,
    DistillationForm,
    DiversityForm,
    Family,
    Policy,
    Precision,
    RouterKind,
    ScheduleForm,
    TemperatureForm,
)
from training.errors import CheckpointError, ConfigError

_STRICT = ConfigDict(extra="forbid")

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataConfig:
    """Which images are trained on, and at what size.

    `imbalance_factor` makes a balanced CIFAR long-tailed: class k keeps
    n_k = int(n_max * imbalance_factor^(-k/(C-1))) images; None keeps every image. `holdout` is the
    share of each class that is kept out of training to choose thresholds on, for data sets that
    leave no other images for it. `formats` are those of `serving.images.formats` that are decoded,
    and whose endings count in class folders.
    """

    __pydantic_config__ = _STRICT
    dataset: Dataset = Dataset.CIFAR100
    imbalance_factor: float | None = 100.0
    subset_seed: int = 0
    image_size: int = 32
    resize_shorter_side: int = 32
    holdout: float = 0.0
    formats: tuple[str, ...] = BY_DEFAULT


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of training images.

    `cutout` is the side of the square that is blanked, in pixels; `mixup_alpha` the parameter of
    the Beta distribution (Zhang et al. 2018); 0 switches either off.
    """

    __pydantic_config__ = _STRICT
    policy: Policy = Policy.STANDARD
    cutout: int = 0
    color_jitter: float = 0.0
    mixup_alpha: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """The network: a backbone family cut into a shared trunk and `num_experts` experts.

    `cut` names the first stage that every expert has for itself; None is the family's usual one.
    """

    __pydantic_config__ = _STRICT
    backbone: Family = Family.RESNET32
    cut: str | None = None
    num_classes: int = 100
    num_experts: int = 3
    reduced_width: bool = True
    cosine_classifier: bool = True
    pixel_mean: tuple[float, float, float] = CIFAR_MEAN
    pixel_std: tuple[float, float, float] = CIFAR_STD
    router_kind: RouterKind = RouterKind.RIDE
    router_width: int = 16
    router_top_logits: int = 30


@dataclass(frozen=True)
class LossConfig:
    """Stage one's loss. RIDE, section 3; LDAM-DRW, Cao et al. 2019.

    `prior_strengths` and `inverse_prior_strengths` hold one number for all experts or one for
    each: expert e learns softmax(z + tau_e * log prior - lambda_e * log inverse prior). So (1,) is
    balanced softmax, (0, 1, 2) BalPoE; (0, 1, 1) with inverse (0, 0, 2) is SADE.
    """

    __pydantic_config__ = _STRICT
    base: BaseLoss = BaseLoss.LDAM
    max_margin: float = 0.5
    focal_gamma: float = 2.0
    prior_strengths: tuple[float, ...] = (0.0,)
    inverse_prior_strengths: tuple[float, ...] = (0.0,)
    reweighting_beta: float = 0.9999
    reweighting_epoch: int | None = 160
    diversity: DiversityForm = DiversityForm.MEAN
    diversity_weight: float = -0.45
    temperature: TemperatureForm = TemperatureForm.CODE
    temperature_eta: float = 1.0
    temperature_gamma: float = 0.05
    distillation: DistillationForm = DistillationForm.MEAN
    distillation_weight: float = 0.0
    distillation_temperature: float = 1.5
    teacher_sha256: str | None = None
    consistency_weight: float = 0.0
    consistency_temperature: float = 1.0

    @property
    def two_views(self) -> bool:
        """Whether it compares a strong and a weak view of each image."""
        return self.consistency_weight > 0


@dataclass(frozen=True)
class OptimiserConfig:
    """SGD with Nesterov momentum, linear warm-up, steps or a cosine. Epochs count from 0.

    `ema_decay` keeps an exponential moving average of the weights, which is what is evaluated and
    exported; 0 keeps none. A batch is worked off in `accumulate` parts. For the first
    `small_epochs` epochs images are `small_size` pixels wide (Tan and Le 2021, progressive
    learning): cheaper, and a regulariser.
    """

    __pydantic_config__ = _STRICT
    epochs: int = 200
    batch_size: int = 128
    accumulate: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 5
    schedule: ScheduleForm = ScheduleForm.STEPS
    drop_epochs: tuple[int, ...] = (160, 180)
    drop_factor: float = 0.01
    ema_decay: float = 0.0
    small_epochs: int = 0
    small_size: int = 0


@dataclass(frozen=True)
class ClassifierConfig:
    """What happens to the classifiers when the experts are trained (Kang et al. 2020).

    `epochs` of retraining on class-balanced batches with everything else frozen (cRT; as SHIKE
    does it at the end of training); then `tau`-normalisation, w / |w|^tau. 0 switches either off.
    """

    __pydantic_config__ = _STRICT
    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    reset: bool = True
    tau: float = 0.0


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
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
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
            small_epochs=round(self.optimiser.small_epochs * share),
        )
        deferred = self.loss.reweighting_epoch
        loss = replace(
            self.loss, reweighting_epoch=None if deferred is None else round(deferred * share)
        )
        return replace(self, optimiser=optimiser, loss=loss)

    def with_settings(self, assignments: Iterable[str]) -> TrainingConfig:
        """Change fields by name, as in `loss.base=focal` or `loss.prior_strengths=[0, 1, 2]`.

        Raises:
            ConfigError: if a field does not exist or a value does not fit.
        """
        plain = self.to_dict()
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            *sections, field_name = name.strip().split(".")
            place = plain
            for section in sections:
                place = place[section] if isinstance(place.get(section), dict) else {}
            if not equals or field_name not in place or isinstance(place[field_name], dict):
                raise ConfigError(
                    f"--set {assignment} names no setting; write section.field=value, "
                    "and see ride train --show-config for all of them"
                )
            place[field_name] = _parse_value(text.strip())
        try:
            return TrainingConfig.from_dict(plain)
        except CheckpointError as error:
            raise ConfigError(
                str(error).replace("the run's configuration is", "--set is")
            ) from None

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


def _parse_value(text: str) -> object:
    """JSON where it is JSON; words need no quotes."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
