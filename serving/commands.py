"""`ride serve` and `ride classify`."""

from __future__ import annotations

import asyncio
import dataclasses
import json as json_format
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.dataplane.classification import Classification
from serving.dataplane.local_files import Unanswered, classify_files
from serving.images.accepted import USUAL, AcceptedFormats
from serving.model.parameters import DEFAULT_TOP_K, parse_cost_parameters
from serving.options import MOST_USED, argument, option, with_options
from serving.settings import LISTEN, Settings
from serving.tracing.terminal import escaped

_ROUTING = "Routing"
_REPOSITORY_HELP = (
    "Model repository, as ride export writes it; without, the folder model_repository where you "
    "are, which a checkout has."
)


@with_options("RIDE_")
def serve(
    settings: Settings,
    repository: Annotated[Path, argument(_REPOSITORY_HELP, metavar="MODEL_REPOSITORY")] = Path(
        "model_repository"
    ),
    grpc: Annotated[bool, option("Serve gRPC besides HTTP.", LISTEN, negatable=True)] = True,
) -> None:
    """Serve a model repository over HTTP and gRPC.

    Every option is also read from the environment, as RIDE_ and its name.

    Example: ride serve model_repository --port 8000
    """
    if not grpc:
        settings = dataclasses.replace(settings, grpc_port=None)
    # The web framework is slow to import.
    if settings.triton:
        from serving.triton.app import serve as run_server
    else:
        from serving.app import serve as run_server
    run_server(repository, settings, Console())


@with_options()
def classify(
    files: Annotated[
        list[str],
        argument(
            "Image files, folders and globs of them; - for one image on standard input.",
            metavar="FILE",
        ),
    ],
    repository: Annotated[Path, option(_REPOSITORY_HELP, MOST_USED)] = Path("model_repository"),
    top_k: Annotated[int, option("How many labels to print.", MOST_USED)] = DEFAULT_TOP_K,
    json: Annotated[
        bool, option("One JSON object a line, as the server answers.", MOST_USED)
    ] = False,
    max_experts: Annotated[
        int | None, option("Most experts that an image may take.", _ROUTING)
    ] = None,
    threshold: Annotated[
        float | None,
        option("Go on where the router's score is above this, between 0 and 1.", _ROUTING),
    ] = None,
    quality: Annotated[
        str | None, option("fast, balanced or full, where the model has these gears.", _ROUTING)
    ] = None,
    accepted: AcceptedFormats = USUAL,
) -> None:
    """Classify image files without a server.

    Each answer is printed as soon as it is there. Exit status 0: all files are answered; 1: some
    are not, each with its reason on standard error, or none could be.

    Example: ride classify examples/*.png

    Example: ride classify --json - < examples/cup-many.png
    """
    from serving.app import build_data_plane

    given = {"max_experts": max_experts, "threshold": threshold, "quality": quality}
    parameters = parse_cost_parameters(given)
    plane = build_data_plane(repository, Settings(audit_share=0.0), accepted.formats)
    try:
        coming = classify_files(plane, files, accepted.formats, parameters, top_k)
        failed = asyncio.run(_print_answers(coming, as_json=json))
    finally:
        plane.close()
    if failed:
        raise typer.Exit(1)


async def _print_answers(
    coming: AsyncIterator[Classification | Unanswered], *, as_json: bool
) -> int:
    """Print each once it is there. Returns how many images have none."""
    failed = 0
    async for answer in coming:
        if isinstance(answer, Classification):
            print(_json(answer) if as_json else _line(answer), flush=True)
        else:
            failed += 1
            print(f"ride: {escaped(answer.reason)}", file=sys.stderr, flush=True)
    return failed


def _json(answer: Classification) -> str:
    """In ASCII, as whatever reads it may know nothing else."""
    return json_format.dumps(dataclasses.asdict(answer), separators=(",", ":"))


def _line(answer: Classification) -> str:
    labels = ", ".join(f"{label.label} {label.probability:.1%}" for label in answer.labels)
    experts = f"{answer.experts_used} expert" + "s" * (answer.experts_used > 1)
    cost = f"{experts}, {answer.compute_share:.0%} of the compute"
    return escaped(f"{answer.name}: {labels} ({cost})")
