"""`ride score` and `ride compare`."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from scoring.errors import OutputError, ScoringError, ScoringStopped
from serving.engine.provider import Provider

if TYPE_CHECKING:
    from scoring.request import RayCluster


class ScoringEngine(StrEnum):
    """What scores."""

    THREADS = "threads"
    RAY = "ray"


_STOPPED = 130
"""What a shell expects of a command that Ctrl-C ended."""


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folders and globs of images, Parquet files with encoded images, WebDataset tar "
            "files, CSV files or text lists of paths; paths, or URLs of fsspec (s3://, gs://, "
            "https://).",
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Folder for the Parquet parts; the same command goes on there.")
    ],
    model: Annotated[Path, typer.Option(help="Model repository, as ride export writes it.")] = Path(
        "model_repository"
    ),
    column: Annotated[
        str | None,
        typer.Option(
            help="Column of the images in Parquet, of the paths in CSV; ending of the images in "
            "tar files. Found by itself where there is one."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the true labels, names or numbers of classes, to report accuracy; "
            "their ending in tar files; for image files 'folder', the names of their folders.",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Labels to keep of each image.")] = 5,
    quality: Annotated[
        str | None, typer.Option(help="fast, balanced or full, where the model has these gears.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Go on where the router's score is above this, between 0 and 1."),
    ] = None,
    max_experts: Annotated[
        int | None, typer.Option(help="Most experts that an image may take.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MEAN_EXPERTS",
            help="Experts that images may take on average, such as 1.5: thresholds are set on a "
            "sample of 2,048 of these images.",
        ),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Keep the embedding of the last expert that ran.")
    ] = False,
    all_probabilities: Annotated[
        bool, typer.Option("--all-probabilities", help="Keep the probability of every class.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on although input files were written anew meanwhile."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what another run left in the folder.")
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the summary as JSON; - for standard output."),
    ] = None,
    part_rows: Annotated[
        int, typer.Option(min=1, help="Rows of a part; what a kill loses is a few of them.")
    ] = 5000,
    provider: Annotated[
        Provider, typer.Option(help="Where graphs run, in ONNX Runtime's terms.")
    ] = Provider.CPU,
    workers: Annotated[
        int, typer.Option(min=0, help="Threads that decode and infer; 0 takes one a core.")
    ] = 0,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Images that a graph runs on at once.")
    ] = None,
    engine: Annotated[
        ScoringEngine,
        typer.Option(help="Threads of this process, or workers of a Ray cluster."),
    ] = ScoringEngine.THREADS,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="With --engine ray: the cluster, auto or HOST:PORT; without, one is started on "
            "this machine and ended with the run.",
        ),
    ] = None,
    ray_actors: Annotated[
        int | None,
        typer.Option(min=1, help="With --engine ray: workers; without, one a node, or one a GPU."),
    ] = None,
) -> None:
    """Score images by the million: Parquet in, Parquet out, and nothing lost when it is killed.

    Example: ride score examples --output scores
    """
    # Arrow is an extra, and slow to import.
    from scoring.parts import KeptFields
    from scoring.report import show_summary
    from scoring.request import Routing, ScoringRequest
    from scoring.session import score_session

    request = ScoringRequest(
        inputs=tuple(inputs),
        output=_folder(output),
        repository=model,
        column=column,
        labels=labels,
        routing=Routing(quality, threshold, max_experts, budget),
        kept=KeptFields(top_k, embeddings, all_probabilities),
        part_rows=part_rows,
        provider=provider,
        workers=workers,
        batch_size=batch_size,
        resume=resume,
        overwrite=overwrite,
        ray=_ray(engine, ray_address, ray_actors),
    )
    console = Console(stderr=True)
    try:
        found = score_session(request, console)
    except ScoringStopped as stopped:
        console.print(f"ride: {stopped}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_STOPPED) from stopped
    _write(found, json, show_summary)


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Output folder of ride score: how it was.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one: how it is.")],
    max_changed: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Exit with status 1 if the label changed of more than this share of the images "
            "in both, such as 0.02.",
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the comparison as JSON; - for standard output."),
    ] = None,
) -> None:
    """Compare two scorings of the same images, before a new model or new thresholds go live.

    Exit status 0: compared; 1: too many labels changed, or nothing could be compared.

    Example: ride compare scores/version-1 scores/version-2 --max-changed 0.02
    """
    from scoring.compare.report import show_comparison
    from scoring.compare.session import compare_runs

    found = compare_runs(a, b)
    _write(found, json, show_comparison)
    changed = found["labels"]["changed_share"]
    if max_changed is not None and changed > max_changed:
        typer.echo(
            f"ride: {changed:.2%} of the labels changed, and --max-changed allows "
            f"{max_changed:.2%}",
            err=True,
        )
        raise typer.Exit(1)


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
    from scoring.request import RayCluster

    if engine is ScoringEngine.RAY:
        return RayCluster(address, actors)
    if address is not None or actors is not None:
        raise ScoringError("--ray-address and --ray-actors belong to --engine ray")
    return None


def _folder(output: str) -> Path:
    if "://" in output:
        raise OutputError(f"--output must be a folder of this machine, and {output} is a URL")
    return Path(output)
