"""`ride train` and `ride evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from training.config import BaseLoss, DiversityForm, Precision, TrainingConfig
from training.errors import ConfigError
from training.presets import preset

_DATA_HELP = (
    "Folder with train.parquet and test.parquet (columns img and fine_label), or with "
    "torchvision's extracted CIFAR archive."
)


def train(
    data: Annotated[Path, typer.Option(help=_DATA_HELP)],
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoint and TensorBoard.")],
    preset_name: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Published settings: cifar100-lt (the default) or cifar10-lt."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --output.")
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Length of stage one; its milestones move along. (preset: 200)"),
    ] = None,
    experts: Annotated[
        int | None, typer.Option(min=1, max=6, help="Number of experts. (preset: 3)")
    ] = None,
    imbalance_factor: Annotated[
        float | None,
        typer.Option(min=1, help="Images of the largest class over the smallest. (preset: 100)"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="(preset: 128)")] = None,
    base_loss: Annotated[BaseLoss | None, typer.Option(help="(preset: ldam)")] = None,
    diversity: Annotated[
        DiversityForm | None,
        typer.Option(help="mean: the authors' code; pairwise: the paper. (preset: mean)"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="(preset: 0)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="auto takes bf16 where the hardware has it. (preset: auto)"),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="Save at least this often; also saved at Ctrl-C.")
    ] = 5.0,
) -> None:
    """Train a model: the experts, then the routers.

    A run can be stopped at any time with Ctrl-C and goes on with --resume as if it had not been
    stopped: bit for bit on the same CPU, on a GPU as far as its kernels repeat themselves.

    Example: ride train --preset cifar100-lt --data cifar100/ --output runs/first
    """
    changes: dict[str, Any] = {
        "preset": preset_name,
        "epochs": epochs,
        "experts": experts,
        "imbalance_factor": imbalance_factor,
        "batch_size": batch_size,
        "base_loss": base_loss,
        "diversity": diversity,
        "seed": seed,
        "precision": precision,
    }
    if resume and (given := [name for name, value in changes.items() if value is not None]):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"a resumed run keeps its own settings: leave out {flags}")
    config = _configured(preset(preset_name or "cifar100-lt"), changes)

    from training.session import train_session  # torch is slow to import, --help is not

    finished = train_session(
        config,
        data=data,
        output=output,
        resume=resume,
        device=device,
        checkpoint_every_s=checkpoint_minutes * 60,
        console=Console(),
    )
    if not finished:
        raise typer.Exit(130)


def _configured(config: TrainingConfig, changes: dict[str, Any]) -> TrainingConfig:
    def chosen(**fields: str) -> dict[str, Any]:
        given = {field: changes[flag] for field, flag in fields.items()}
        return {field: value for field, value in given.items() if value is not None}

    config = replace(
        config,
        data=replace(config.data, **chosen(imbalance_factor="imbalance_factor")),
        model=replace(config.model, **chosen(num_experts="experts")),
        loss=replace(config.loss, **chosen(base="base_loss", diversity="diversity")),
        optimiser=replace(config.optimiser, **chosen(batch_size="batch_size")),
        **chosen(seed="seed", precision="precision"),
    )
    if config.loss.base is not BaseLoss.LDAM:
        config = replace(config, model=replace(config.model, cosine_classifier=False))
    return config if changes["epochs"] is None else config.with_epochs(changes["epochs"])


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help=_DATA_HELP)],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Also write a Parquet table with a row an image.")
    ] = None,
    save: Annotated[
        bool, typer.Option(help="Write RUN/evaluation.json, from where ride export takes it.")
    ] = True,
) -> None:
    """Measure a finished run on the test split.

    Top-1 overall and for many-, medium- and few-shot classes, with all experts and routed; mean
    experts, multiply-adds, and the share of images that stop at each expert.

    Example: ride evaluate runs/first --data cifar100/
    """
    from training.session import evaluate_session  # torch is slow to import, --help is not

    evaluate_session(
        run,
        data=data,
        device=device,
        as_json=json,
        predictions=predictions,
        save=save,
        console=Console(),
    )
