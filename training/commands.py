"""`ride train`, `ride evaluate` and `ride route`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from training.config import (
    BaseLoss,
    DiversityForm,
    Family,
    Policy,
    Precision,
    RouterKind,
    TrainingConfig,
)
from training.errors import ConfigError
from training.presets import PRESETS, preset

_DATA_HELP = "Folder of the data set; docs/training.md shows each layout."
_DEVICE_HELP = "auto, cpu, cuda or cuda:N."


class Unreadable(StrEnum):
    """What happens to an image that can't be read."""

    STOP = "stop"
    SKIP = "skip"


def train(
    data: Annotated[Path | None, typer.Option(help=_DATA_HELP)] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run: checkpoint and TensorBoard.")
    ] = None,
    preset_name: Annotated[
        str | None,
        typer.Option("--preset", help=f"Settings to start from: {', '.join(PRESETS)}."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --output.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Length of stage one; its milestones move along.")
    ] = None,
    experts: Annotated[int | None, typer.Option(min=1, max=6, help="Number of experts.")] = None,
    imbalance_factor: Annotated[
        float | None,
        typer.Option(min=1, help="Images of the largest class over the smallest (CIFAR)."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Images of one step, all processes together.")
    ] = None,
    backbone: Annotated[Family | None, typer.Option(help="Network family.")] = None,
    base_loss: Annotated[BaseLoss | None, typer.Option(help="Loss of each expert.")] = None,
    diversity: Annotated[
        DiversityForm | None, typer.Option(help="mean: the authors' code; pairwise: the paper.")
    ] = None,
    augmentation: Annotated[
        Policy | None, typer.Option(help="Random changes besides crop and flip.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1)] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="auto takes bf16 where the hardware has it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, as section.field=value; may be given again. "
            "Example: --set loss.prior_strengths=[0,1,2]",
        ),
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print all settings as JSON, and stop.")
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Finished run to imitate; see loss.distillation_weight."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of torchvision's ImageNet weights to start from.")
    ] = None,
    device: Annotated[str, typer.Option(help=_DEVICE_HELP)] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile: minutes first, then faster steps.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images of large data sets.")
    ] = 2,
    unreadable: Annotated[
        Unreadable, typer.Option(help="What an image that can't be read does.")
    ] = Unreadable.STOP,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="Save at least this often; also saved at Ctrl-C.")
    ] = 5.0,
) -> None:
    """Train a model: the experts, then the routers.

    A run can be stopped at any time with Ctrl-C and goes on with --resume as if it had not been
    stopped: bit for bit on the same CPU, on a GPU as far as its kernels repeat themselves. On
    several GPUs: torchrun --nproc-per-node 4 -m ride train ..

    Example: ride train --preset cifar100-lt --data cifar100/ --output runs/first
    """
    changes: dict[str, Any] = {
        "preset": preset_name,
        "epochs": epochs,
        "experts": experts,
        "imbalance_factor": imbalance_factor,
        "batch_size": batch_size,
        "backbone": backbone,
        "base_loss": base_loss,
        "diversity": diversity,
        "augmentation": augmentation,
        "seed": seed,
        "precision": precision,
        "set": settings or None,
        "weights": weights,
        "show_config": show_config or None,
    }
    if resume and (given := [name for name, value in changes.items() if value is not None]):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"a resumed run keeps its own settings: leave out {flags}")
    config = _configured(preset(preset_name or "cifar100-lt"), changes)
    if show_config:
        print(json.dumps(config.to_dict(), indent=2))
        return
    if data is None or output is None:
        raise ConfigError(
            "ride train needs --data and --output; ride train --help shows an example"
        )

    from training.data.loading import OnUnreadable  # torch is slow to import, --help is not
    from training.train_session import Runtime, train_session

    runtime = Runtime(
        data=data,
        device=device,
        compiled=compiled,
        workers=workers,
        on_unreadable=OnUnreadable(unreadable.value),
        checkpoint_every_s=checkpoint_minutes * 60,
        teacher=teacher,
        weights=weights,
    )
    if not train_session(config, runtime, output=output, resume=resume, console=Console()):
        raise typer.Exit(130)


def _configured(config: TrainingConfig, changes: dict[str, Any]) -> TrainingConfig:
    """The preset, then its length, then single settings, in the order in which they weigh more."""

    def chosen(**fields: str) -> dict[str, Any]:
        given = {field: changes[flag] for field, flag in fields.items()}
        return {field: value for field, value in given.items() if value is not None}

    config = replace(
        config,
        data=replace(config.data, **chosen(imbalance_factor="imbalance_factor")),
        augmentation=replace(config.augmentation, **chosen(policy="augmentation")),
        model=replace(config.model, **chosen(num_experts="experts", backbone="backbone")),
        loss=replace(config.loss, **chosen(base="base_loss", diversity="diversity")),
        optimiser=replace(config.optimiser, **chosen(batch_size="batch_size")),
        **chosen(seed="seed", precision="precision"),
    )
    if changes["base_loss"] in (BaseLoss.CROSS_ENTROPY, BaseLoss.FOCAL):
        # As published: the cosine classifier belongs to LDAM and to prior-adjusted losses.
        config = replace(config, model=replace(config.model, cosine_classifier=False))
    if changes["epochs"] is not None:
        config = config.with_epochs(changes["epochs"])
    config = config.with_settings(changes["set"] or ())
    config.check()
    return config


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help=_DATA_HELP)],
    device: Annotated[str, typer.Option(help=_DEVICE_HELP)] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write a Parquet table with a row an image.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report with plots, DIR/index.html.")
    ] = None,
    baseline: Annotated[
        list[Path] | None, typer.Option(help="Finished run to compare with in the report.")
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option(help="The same run with another seed, for the report's bias and variance."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images of large data sets.")
    ] = 2,
    save: Annotated[
        bool, typer.Option(help="Write RUN/evaluation.json, from where ride export takes it.")
    ] = True,
) -> None:
    """Measure a finished run on the test split.

    Top-1 overall and for many-, medium- and few-shot classes, with all experts and routed; mean
    experts, multiply-adds, and the share of images that stop at each expert.

    Example: ride evaluate runs/first --data cifar100/ --report report/
    """
    from training.evaluate_report import ReportRequest  # torch is slow to import, --help is not
    from training.evaluate_session import evaluate_session

    if report is None and (baseline or repeat):
        raise ConfigError("--baseline and --repeat belong to a report: name its folder by --report")
    wanted = None if report is None else ReportRequest(report, baseline or [], repeat or [])
    evaluate_session(
        run,
        data=data,
        device=device,
        as_json=json,
        predictions=predictions,
        report=wanted,
        workers=workers,
        save=save,
        console=Console(stderr=json),
    )


def route(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help=_DATA_HELP)],
    router: Annotated[
        RouterKind | None, typer.Option(help="Which router. (default: the best of all)")
    ] = None,
    mean_experts: Annotated[
        float | None, typer.Option(min=1, help="Experts that an image may take on average.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Points of accuracy to lose against all experts. (default: 0.3)"),
    ] = None,
    prior_adjustment: Annotated[
        str,
        typer.Option(
            metavar="STRENGTH",
            help="Take so much of the log prior out of every answer (Menon et al. 2021); "
            "auto: what is best on the calibration images.",
        ),
    ] = "0",
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare all routers and draw RUN/curve.svg.")
    ] = False,
    save: Annotated[
        bool, typer.Option(help="Store router, thresholds and gears in the run's checkpoint.")
    ] = True,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images of large data sets.")
    ] = 2,
    device: Annotated[str, typer.Option(help=_DEVICE_HELP)] = "auto",
) -> None:
    """Choose a router and its thresholds for a budget.

    The experts stay as they are. Where they lean to common classes, --prior-adjustment auto sets
    that right first. Thresholds are chosen on images that neither trained nor test the model, all
    of them together; what is printed was measured on the test images. Storing a router of another
    kind replaces the run's own.

    Example: ride route runs/first --data cifar100/ --mean-experts 1.5
    """
    # torch is slow to import, --help is not
    from training.route.candidates import Budget
    from training.route.session import route_session

    route_session(
        run,
        data=data,
        router=router,
        budget=Budget(mean_experts, max_accuracy_drop),
        prior_adjustment=_strength(prior_adjustment),
        with_comparison=compare,
        save=save,
        workers=workers,
        device=device,
        console=Console(),
    )


def _strength(text: str) -> float | None:
    """A flag's value; None for `auto`."""
    if text == "auto":
        return None
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ConfigError(f"--prior-adjustment must be auto or a number, not {text!r}")
    return strength
