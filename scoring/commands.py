"""`ride score` and `ride compare`."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from scoring.errors import ScoringError, ScoringStopped
from scoring.request import RUNTIME, RayCluster, ScoringRequest
from serving.options import MOST_USED, argument, option, with_options
from serving.tracing.terminal import say


class ScoringEngine(StrEnum):
    """What scores."""

    THREADS = "threads"
    RAY = "ray"


_STOPPED = 130
"""What a shell expects of a command that Ctrl-C ended."""


@with_options()
def score(
    request: ScoringRequest,
    json: Annotated[
        str | None,
        option("Write the summary as JSON; - for standard output.", MOST_USED, metavar="FILE"),
    ] = None,
    engine: Annotated[
        ScoringEngine, option("Threads of this process, or workers of a Ray cluster.", RUNTIME)
    ] = ScoringEngine.THREADS,
    ray_address: Annotated[
        str | None,
        option(
            "With --engine ray: the cluster, auto or HOST:PORT; without, one is started on this "
            "machine and ended with the run.",
            RUNTIME,
            metavar="ADDRESS",
        ),
    ] = None,
    ray_actors: Annotated[
        int | None,
        option("With --engine ray: workers; without, one a node, or one a GPU.", RUNTIME, min=1),
    ] = None,
) -> None:
    """Score images by the million: Parquet in, Parquet out, and nothing lost when it is killed.

    Example: ride score examples --output scores
    """
    # Arrow is an extra, and slow to import.
    from scoring.report import show_summary
    from scoring.session import score_session

    _require_writable(json)
    request = replace(request, ray=_ray(engine, ray_address, ray_actors))
    console = Console(stderr=True)
    try:
        found = score_session(request, console)
    except ScoringStopped as stopped:
        say(console, f"ride: {stopped}")
        raise typer.Exit(_STOPPED) from stopped
    _write(found, json, show_summary)


@with_options()
def compare(
    a: Annotated[Path, argument("Output folder of ride score: how it was.", metavar="A")],
    b: Annotated[Path, argument("Another one: how it is.", metavar="B")],
    max_changed: Annotated[
        float | None,
        option(
            "Exit with status 1 if more than this share of the images has another label or is "
            "missing in one run, such as 0.02.",
            MOST_USED,
            min=0,
            max=1,
            metavar="SHARE",
        ),
    ] = None,
    ignore_missing: Annotated[
        bool, option("Leave images that only one run has out of --max-changed.", MOST_USED)
    ] = False,
    json: Annotated[
        str | None,
        option("Write the comparison as JSON; - for standard output.", MOST_USED, metavar="FILE"),
    ] = None,
) -> None:
    """Compare two scorings of the same images, before a new model or new thresholds go live.

    Exit status 0: compared; 1: too many images changed or missing, or nothing could be compared.

    Example: ride compare scores/version-1 scores/version-2 --max-changed 0.02
    """
    if ignore_missing and max_changed is None:
        raise ScoringError("--ignore-missing belongs to --max-changed")
    _require_writable(json)
    from scoring.compare.gate import why_closed
    from scoring.compare.report import show_comparison
    from scoring.compare.session import compare_runs

    found = compare_runs(a, b)
    _write(found, json, show_comparison)
    if max_changed is None:
        return
    if closed := why_closed(found, max_changed, ignore_missing=ignore_missing):
        typer.echo(f"ride: {closed}", err=True)
        raise typer.Exit(1)


def _require_writable(json: str | None) -> None:
    """Find out before the work, not after it."""
    from serving.files import require_writable

    if json is not None and json != "-":
        require_writable(Path(json))


def _write(
    found: dict[str, Any], json: str | None, show: Callable[[dict[str, Any], Console], None]
) -> None:
    """As a table, and as JSON where that was asked for: in a file, or instead of the table."""
    from serving.files import replacing

    text = json_format.dumps(found, indent=2) + "\n"
    if json == "-":
        print(text, end="")
        return
    if json is not None:
        with replacing(Path(json)) as file:
            file.write(text.encode())
    show(found, Console())


def _ray(engine: ScoringEngine, address: str | None, actors: int | None) -> RayCluster | None:
    if engine is ScoringEngine.RAY:
        return RayCluster(address, actors)
    if address is not None or actors is not None:
        raise ScoringError("--ray-address and --ray-actors belong to --engine ray")
    return None
