"""`ride train` and `ride evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from training.config import BaseLoss, DiversityForm, Precision, TrainingConfig, preset
from training.errors import ConfigError

_DATA_HELP = (
    "Folder with train.parquet and test.parquet (columns img and fine_label), or with "
    "torchvision's extracted CIFAR archive."
)


def train(
    data: Annotated[Path, typer.Option(help=_DATA_HELP)],
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoint and TensorBoard.")],
    preset_name: Annotated[
        str, typer.Option("--preset", help="Published settings: cifar100-lt or cifar10-lt.")
    ] = "cifar100-lt",
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
    seed: Annotated[int | None, typer.Option(min=0, help="(preset: 0)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="auto takes bf16 where the hardware has it.")
    ] = Precision.AUTO,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="Save at least this often; also saved at Ctrl-C.")
    ] = 5.0,
) -> None:
    """Train a model: the experts, then the routers.

    A run can be stopped at any time with Ctrl-C and goes on with --resume, bit for bit as if it
    had not been stopped (on the same machine).

    Example: ride train --preset cifar100-lt --data cifar100/ --output runs/first
    """
    changes: dict[str, Any] = {
        "epochs": epochs,
        "experts": experts,
        "imbalance_factor": imbalance_factor,
        "batch_size": batch_size,
        "base_loss": base_loss,
        "diversity": diversity,
        "seed": seed,
    }
    if resume and (given := [name for name, value in changes.items() if value is not None]):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"a resumed run keeps its own settings: leave out {flags}")
    config = _configured(preset(preset_name), changes)

    from training.session import train_session  # torch is slow to import, --help is not

    finished = train_session(
        config,
        data=data,
        output=output,
        resume=resume,
        device=device,
        precision=precision,
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
        **chosen(seed="seed"),
    )
    if config.loss.base is not BaseLoss.LDAM:
        config = replace(config, model=replace(config.model, cosine_classifier=False))
    return config if changes["epochs"] is None else config.with_epochs(changes["epochs"])
