"""What the commands of training are asked for: the options of `ride train`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from serving.options import MOST_USED, option
from training.checks import MAX_EXPERTS, check_config
from training.choices import (
    BaseLoss,
    DiversityForm,
    Family,
    OnUnreadable,
    Policy,
    Precision,
)
from training.config import TrainingConfig
from training.presets import PRESETS, preset

DATA_HELP = "Folder of the data set; docs/training.md shows each layout."
DEVICE_HELP = "auto, cpu, cuda or cuda:N."
RUNTIME = "Runtime"
_METHOD = "Method"
_START = "Where to start"


@dataclass(frozen=True)
class ConfigChanges:
    """A preset, and what a run changes of it; None leaves it as it is."""

    preset: Annotated[
        str | None, option(f"Settings to start from: {', '.join(PRESETS)}.", MOST_USED)
    ] = None
    epochs: Annotated[
        int | None, option("Length of stage one; its milestones move along.", MOST_USED, min=1)
    ] = None
    experts: Annotated[
        int | None, option("Number of experts.", _METHOD, min=1, max=MAX_EXPERTS)
    ] = None
    imbalance_factor: Annotated[
        float | None,
        option("Images of the largest class over the smallest (CIFAR).", _METHOD, min=1),
    ] = None
    batch_size: Annotated[
        int | None, option("Images of one step, all processes together.", _METHOD, min=2)
    ] = None
    backbone: Annotated[Family | None, option("Network family.", _METHOD)] = None
    base_loss: Annotated[BaseLoss | None, option("Loss of each expert.", _METHOD)] = None
    diversity: Annotated[
        DiversityForm | None, option("mean: the authors' code; pairwise: the paper.", _METHOD)
    ] = None
    augmentation: Annotated[
        Policy | None, option("Random changes besides crop and flip.", _METHOD)
    ] = None
    seed: Annotated[int | None, option("Of every draw.", _METHOD, min=0, max=2**32 - 1)] = None
    precision: Annotated[
        Precision | None, option("auto takes bf16 where the hardware has it.", _METHOD)
    ] = None
    set: Annotated[
        list[str] | None,
        option(
            "Any other setting, as section.field=value; may be given again. Example: --set "
            "loss.prior_strengths=[0,1,2]",
            _METHOD,
            read=lambda typed: typed or None,
        ),
    ] = None

    def given(self) -> list[str]:
        """The flags of what is changed."""
        named = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in named]

    def configured(self) -> TrainingConfig:
        """The preset, then its length, then single settings, as they weigh more; checked.

        Raises:
            ConfigError: if there is no such preset, or a setting makes no sense.
        """

        def chosen(**fields: str) -> dict[str, Any]:
            found = {field: getattr(self, flag) for field, flag in fields.items()}
            return {field: value for field, value in found.items() if value is not None}

        config = preset(self.preset or "cifar100-lt")
        config = replace(
            config,
            data=replace(config.data, **chosen(imbalance_factor="imbalance_factor")),
            augmentation=replace(config.augmentation, **chosen(policy="augmentation")),
            model=replace(config.model, **chosen(num_experts="experts", backbone="backbone")),
            loss=replace(config.loss, **chosen(base="base_loss", diversity="diversity")),
            optimiser=replace(config.optimiser, **chosen(batch_size="batch_size")),
            **chosen(seed="seed", precision="precision"),
        )
        if self.base_loss in (BaseLoss.CROSS_ENTROPY, BaseLoss.FOCAL):
            # As published: the cosine classifier belongs to LDAM and to prior-adjusted losses.
            config = replace(config, model=replace(config.model, cosine_classifier=False))
        if self.epochs is not None:
            config = config.with_epochs(self.epochs)
        config = config.with_settings(self.set or ())
        check_config(config)
        return config


@dataclass(frozen=True)
class Runtime:
    """What a run needs besides its configuration and its data, from one start to the next."""

    teacher: Annotated[
        Path | None, option("Finished run to imitate; see loss.distillation_weight.", _START)
    ] = None
    weights: Annotated[
        Path | None, option("File of torchvision's ImageNet weights to start from.", _START)
    ] = None
    device: Annotated[str, option(DEVICE_HELP, RUNTIME)] = "auto"
    compiled: Annotated[
        bool,
        option("torch.compile: minutes first, then faster steps.", RUNTIME, names=("--compile",)),
    ] = False
    workers: Annotated[
        int, option("Processes that decode images of large data sets.", RUNTIME, min=0)
    ] = 2
    on_unreadable: Annotated[
        OnUnreadable,
        option("What an image that can't be read does.", RUNTIME, flag="--unreadable"),
    ] = OnUnreadable.STOP
    checkpoint_minutes: Annotated[
        float, option("Save at least this often; also saved at Ctrl-C.", RUNTIME, min=0)
    ] = 5.0
