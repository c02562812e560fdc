"""`ride train`, `ride evaluate` and `ride route`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.options import MOST_USED, with_options
from training.choices import RouterKind
from training.errors import ConfigError
from training.requests import DATA_HELP, DEVICE_HELP, RUNTIME, ConfigChanges, Runtime


@with_options()
def train(
    changes: ConfigChanges,
    runtime: Runtime,
    data: Annotated[Path | None, typer.Option(help=DATA_HELP, rich_help_panel=MOST_USED)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run: checkpoint and TensorBoard.", rich_help_panel=MOST_USED
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the checkpoint in --output.",
            rich_help_panel=MOST_USED,
        ),
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help="Print all settings as JSON, and stop.",
            rich_help_panel="Method",
        ),
    ] = False,
) -> None:
    """Train a model: the experts, then the routers.

    A run can be stopped at any time with Ctrl-C and goes on with --resume as if it had not been
    stopped: bit for bit on the same CPU, on a GPU as far as its kernels repeat themselves. On
    several GPUs: torchrun --nproc-per-node 4 -m ride train ..

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
    from training.train_session import train_session  # torch is slow to import, --help is not

    console = Console()
    if not train_session(config, runtime, data=data, output=output, resume=resume, console=console):
        raise typer.Exit(130)


def _require_unchanged(changes: ConfigChanges, runtime: Runtime, *, show_config: bool) -> None:
    given = changes.given()
    given += ["--weights"] * (runtime.weights is not None) + ["--show-config"] * show_config
    if given:
        raise ConfigError(f"a resumed run keeps its own settings: leave out {', '.join(given)}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP, rich_help_panel=MOST_USED)],
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=RUNTIME)] = "auto",
    json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=MOST_USED),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Also write a Parquet table with a row an image.", rich_help_panel=MOST_USED
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write a report with plots, DIR/index.html.", rich_help_panel=MOST_USED
        ),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="Finished run to compare with in the report.", rich_help_panel="Report"),
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option(
            help="The same run with another seed, for the report's bias and variance.",
            rich_help_panel="Report",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that decode images of large data sets.", rich_help_panel=RUNTIME
        ),
    ] = 2,
    save: Annotated[
        bool,
        typer.Option(
            help="Write RUN/evaluation.json, from where ride export takes it.",
            rich_help_panel=MOST_USED,
        ),
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
    data: Annotated[Path, typer.Option(help=DATA_HELP, rich_help_panel=MOST_USED)],
    router: Annotated[
        RouterKind | None,
        typer.Option(help="Which router. (default: the best of all)", rich_help_panel=MOST_USED),
    ] = None,
    mean_experts: Annotated[
        float | None,
        typer.Option(
            min=1, help="Experts that an image may take on average.", rich_help_panel=MOST_USED
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Points of accuracy to lose against all experts. (default: 0.3)",
            rich_help_panel=MOST_USED,
        ),
    ] = None,
    prior_adjustment: Annotated[
        str,
        typer.Option(
            metavar="STRENGTH",
            help="Take so much of the log prior out of every answer (Menon et al. 2021); "
            "auto: what is best on the calibration images.",
            rich_help_panel="Method",
        ),
    ] = "0",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare all routers and draw RUN/curve.svg.",
            rich_help_panel=MOST_USED,
        ),
    ] = False,
    save: Annotated[
        bool,
        typer.Option(
            help="Store router, thresholds and gears in the run's checkpoint.",
            rich_help_panel="Method",
        ),
    ] = True,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that decode images of large data sets.", rich_help_panel=RUNTIME
        ),
    ] = 2,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=RUNTIME)] = "auto",
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
