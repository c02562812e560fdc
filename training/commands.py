"""`ride train`, `ride evaluate` and `ride route`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.options import MOST_USED, argument, option, with_options
from training.errors import ConfigError
from training.requests import (
    DATA_HELP,
    Compute,
    ConfigChanges,
    ReportOptions,
    RouterChoice,
    Runtime,
)


@with_options()
def train(
    changes: ConfigChanges,
    runtime: Runtime,
    data: Annotated[Path | None, option(DATA_HELP, MOST_USED)] = None,
    output: Annotated[
        Path | None, option("Folder of the run: checkpoint and TensorBoard.", MOST_USED)
    ] = None,
    resume: Annotated[bool, option("Go on from the checkpoint in --output.", MOST_USED)] = False,
    show_config: Annotated[bool, option("Print all settings as JSON, and stop.", "Method")] = False,
) -> None:
    """Train a model: the experts, then the routers.

    A run can be stopped at any time with Ctrl-C or SIGTERM (exit status 130, the checkpoint is
    saved first) and goes on with --resume as if it had not been stopped: bit for bit on the same
    CPU, on a GPU as far as its kernels repeat themselves. On several GPUs: torchrun
    --nproc-per-node 4 -m ride train ..

    Example: ride train --preset cifar100-lt --data cifar100/ --output runs/first
    """
    if resume:
        _require_unchanged(changes, runtime, show_config=show_config)
    config = changes.configured()
    if show_config:
        print(json.dumps(config.to_dict(), indent=2))
        return
    if data is None or output is None:
        raise ConfigError(
            "ride train needs --data and --output; ride train --help shows an example"
        )
    # torch is slow to import, --help is not
    from training.data.workers import losses_told
    from training.train_session import train_session

    console = Console()
    with losses_told():
        finished = train_session(
            config, runtime, data=data, output=output, resume=resume, console=console
        )
    if not finished:
        raise typer.Exit(130)


def _require_unchanged(changes: ConfigChanges, runtime: Runtime, *, show_config: bool) -> None:
    given = changes.given()
    given += ["--weights"] * (runtime.weights is not None) + ["--show-config"] * show_config
    if given:
        raise ConfigError(f"a resumed run keeps its own settings: leave out {', '.join(given)}")


@with_options()
def evaluate(
    run: Annotated[Path, argument("Folder of a finished run.")],
    data: Annotated[Path, option(DATA_HELP, MOST_USED)],
    report: ReportOptions,
    compute: Compute,
    json: Annotated[bool, option("Print JSON instead of a table.", MOST_USED)] = False,
    predictions: Annotated[
        Path | None, option("Also write a Parquet table with a row an image.", MOST_USED)
    ] = None,
    save: Annotated[
        bool,
        option(
            "Write RUN/evaluation.json, from where ride export takes it.", MOST_USED, negatable=True
        ),
    ] = True,
) -> None:
    """Measure a finished run on the test split.

    Top-1 overall and for many-, medium- and few-shot classes, with all experts and routed; mean
    experts, multiply-adds, and the share of images that stop at each expert.

    Example: ride evaluate runs/first --data cifar100/ --report report/
    """
    # torch is slow to import, --help is not
    from training.data.workers import losses_told
    from training.evaluate_report import ReportRequest
    from training.evaluate_session import evaluate_session

    wanted = None
    if report.report is not None:
        wanted = ReportRequest(report.report, report.baseline or [], report.repeat or [])
    with losses_told():
        evaluate_session(
            run,
            data=data,
            device=compute.device,
            as_json=json,
            predictions=predictions,
            report=wanted,
            workers=compute.workers,
            save=save,
            console=Console(stderr=json),
        )


@with_options()
def route(
    run: Annotated[Path, argument("Folder of a finished run.")],
    data: Annotated[Path, option(DATA_HELP, MOST_USED)],
    choice: RouterChoice,
    compute: Compute,
    compare: Annotated[
        bool, option("Compare all routers and draw RUN/curve.svg.", MOST_USED)
    ] = False,
    save: Annotated[
        bool,
        option(
            "Store router, thresholds and gears in the run's checkpoint.", "Method", negatable=True
        ),
    ] = True,
) -> None:
    """Choose a router and its thresholds for a budget.

    The experts stay as they are. Where they lean to common classes, --prior-adjustment auto sets
    that right first. Thresholds are chosen on images that neither trained nor test the model, all
    of them together; what is printed was measured on the test images. Storing a router of another
    kind replaces the run's own.

    Example: ride route runs/first --data cifar100/ --mean-experts 1.5
    """
    # torch is slow to import, --help is not
    from training.data.workers import losses_told
    from training.route.candidates import Budget
    from training.route.session import route_session

    with losses_told():
        route_session(
            run,
            data=data,
            router=choice.router,
            budget=Budget(choice.mean_experts, choice.max_accuracy_drop),
            prior_adjustment=choice.prior_adjustment,
            with_comparison=compare,
            save=save,
            workers=compute.workers,
            device=compute.device,
            console=Console(),
        )
