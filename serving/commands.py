"""`ride serve` and `ride classify`."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.dataplane.classification import Classification
from serving.dataplane.dataplane import DataPlane
from serving.errors import RideError
from serving.images.accepted import USUAL, AcceptedFormats
from serving.images.decoders import EncodedImage
from serving.model.parameters import DEFAULT_TOP_K, CostParameters, parse_cost_parameters
from serving.model.top_k import check_top_k
from serving.options import MOST_USED, argument, option, with_options
from serving.settings import LISTEN, Settings

_ROUTING = "Routing"
_REPOSITORY_HELP = "Model repository, as ride export writes it."


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
    files: Annotated[list[Path], argument("Image files.", metavar="FILE")],
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

    A file that can't be classified is named on standard error, the others are answered, and the
    exit status is 1.

    Example: ride classify examples/*.png
    """
    from serving.app import build_data_plane

    given = {"max_experts": max_experts, "threshold": threshold, "quality": quality}
    parameters = parse_cost_parameters(given)
    plane = build_data_plane(repository, Settings(audit_share=0.0), accepted.formats)
    try:
        answers, failed = asyncio.run(_classify_files(plane, files, parameters, top_k))
    finally:
        plane.close()
    if json:
        for answer in answers:
            print(orjson.dumps(dataclasses.asdict(answer)).decode())
    elif answers:
        Console().print(_table(answers))
    for error in failed:
        print(f"ride: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


async def _classify_files(
    plane: DataPlane, files: Sequence[Path], parameters: CostParameters, top_k: int
) -> tuple[list[Classification], list[str]]:
    answers: list[Classification] = []
    failed: list[str] = []
    with plane.admit() as admitted:
        admitted.ask_for(parameters)
        check_top_k(admitted.live.engine.manifest, top_k)
        for file in files:
            name = os.fsencode(file).decode(
                errors="replace"
            )  # names need not be Unicode, JSON must
            try:
                image = EncodedImage(_read(file, plane.settings.max_image_bytes), name)
                answers += (await admitted.classify([image], top_k)).results
            except OSError as error:
                failed.append(f"{name}: {error.strerror}")
            except RideError as error:
                failed.append(str(error))
    return answers, failed


def _read(file: Path, max_bytes: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(max_bytes + 1)  # one more, so that the decoder sees it is too large


def _table(answers: Sequence[Classification]) -> Table:
    table = Table("file", "labels", "experts", "compute")
    for answer in answers:
        labels = ", ".join(f"{label.label} {label.probability:.1%}" for label in answer.labels)
        cells = (answer.name or "", labels, str(answer.experts_used), f"{answer.compute_share:.0%}")
        table.add_row(*map(Text, cells))  # Text, because brackets in a name are no markup
    return table
