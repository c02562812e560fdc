"""`ride route`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.config import RouterKind


def route(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help="Folder with the data set, as for ride train.")],
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
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare all routers and draw RUN/curve.svg.")
    ] = False,
    save: Annotated[
        bool, typer.Option(help="Store router, thresholds and gears in the run's checkpoint.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Choose a router and its thresholds for a budget.

    The experts stay as they are. Thresholds are chosen on images that neither trained nor test the
    model, all of them together; what is printed was measured on the test images. Storing a router
    of another kind replaces the run's own.

    Example: ride route runs/first --data cifar100/ --mean-experts 1.5
    """
    # torch is slow to import, --help is not
    from training.route_session import Wish, route_session  # noqa: PLC0415

    route_session(
        run,
        data=data,
        router=router,
        wish=Wish(mean_experts, max_accuracy_drop),
        with_comparison=compare,
        save=save,
        device=device,
        console=Console(),
    )
