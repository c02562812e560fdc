"""What the commands of training are asked for: their options."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from serving.engine.cores import usable_cores
from serving.options import MOST_USED, option
from training.checks import MAX_EXPERTS, check_config
from training.choices import (
    BaseLoss,
    DiversityForm,
    Family,
    OnUnreadable,
    Policy,
    Precision,
    RouterKind,
)
from training.config import TrainingConfig
from training.errors import ConfigError
from training.presets import PRESETS, preset

DATA_HELP = "Folder of the data set; docs/training.md shows each layout."
DEFAULT_DROP = 0.3
"""Points of accuracy that a router may lose where no budget is given."""

DEVICE_HELP = "auto, cpu, cuda or cuda:N."
RUNTIME = "Runtime"
_LOADERS = min(2, usable_cores())
"""PyTorch warns of more than there are cores: they would wait for each other."""

_METHOD = "Method"
_START = "Where to start"
_REPORT = "Report"


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
        preset(config.preset)  # raises where --set names another
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
        bool, option("torch.compile: minutes first, then faster steps.", RUNTIME, flag="--compile")
    ] = False
    workers: Annotated[
        int, option("Processes that decode images of large data sets.", RUNTIME, min=0)
    ] = _LOADERS
    on_unreadable: Annotated[
        OnUnreadable, option("What an image that can't be read does.", RUNTIME, flag="--unreadable")
    ] = OnUnreadable.STOP
    checkpoint_minutes: Annotated[
        float, option("Save at least this often; also saved at Ctrl-C.", RUNTIME, min=0)
    ] = 5.0


@dataclass(frozen=True)
class Compute:
    """What measures a finished run."""

    device: Annotated[str, option(DEVICE_HELP, RUNTIME)] = "auto"
    workers: Annotated[
        int, option("Processes that decode images of large data sets.", RUNTIME, min=0)
    ] = _LOADERS


@dataclass(frozen=True)
class ReportOptions:
    """The report of `ride evaluate`, if there is to be one, and what it compares the run with."""

    report: Annotated[
        Path | None, option("Also write a report with plots, DIR/index.html.", MOST_USED)
    ] = None
    baseline: Annotated[
        list[Path] | None, option("Finished run to compare with in the report.", _REPORT)
    ] = None
    repeat: Annotated[
        list[Path] | None,
        option("The same run with another seed, for the report's bias and variance.", _REPORT),
    ] = None

    def __post_init__(self) -> None:
        if self.report is None and (self.baseline or self.repeat):
            raise ConfigError(
                "--baseline and --repeat belong to a report: name its folder by --report"
            )


def _strength(typed: str) -> float | None:
    """A prior adjustment; None for `auto`."""
    if typed == "auto":
        return None
    try:
        strength = float(typed)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ConfigError(f"--prior-adjustment must be auto or a number, not {typed!r}")
    return strength


@dataclass(frozen=True)
class RouterChoice:
    """Which router is wanted, and for what; None of `router` takes the best of all."""

    mean_experts: Annotated[
        float | None, option("Experts that an image may take on average.", MOST_USED, min=1)
    ] = None
    max_accuracy_drop: Annotated[
        float | None,
        option(
            f"Points of accuracy to lose against all experts. (default: {DEFAULT_DROP})",
            MOST_USED,
            min=0,
        ),
    ] = None
    router: Annotated[
        RouterKind | None, option("Which router. (default: the best of all)", MOST_USED)
    ] = None
    prior_adjustment: Annotated[
        float | None,
        option(
            "Take so much of the log prior out of every answer (Menon et al. 2021); auto: what is "
            "best on the calibration images.",
            _METHOD,
            kind=str,
            read=_strength,
            shown="0",
            metavar="STRENGTH",
        ),
    ] = 0.0
