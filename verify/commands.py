"""`ride verify`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def verify(
    images: Annotated[
        Path,
        typer.Argument(
            help="Folder of JPEG, PNG and WebP files, searched with all folders in it; one image "
            "file; or a Parquet file with encoded images."
        ),
    ],
    repository: Annotated[
        Path, typer.Option(help="Model repository, whose latest version is compared.")
    ] = Path("model_repository"),
    run: Annotated[
        Path | None,
        typer.Option(
            help="Compare torch: folder of the run that the repository was exported from."
        ),
    ] = None,
    triton: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Compare a server of the Open Inference Protocol: its gRPC address.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column of the Parquet file. (default: the only one with images)"),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Most that the probability of a class may differ.")
    ] = 1e-4,
    report: Annotated[
        Path | None, typer.Option(help="Also write what was found to a file, as Markdown.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write what was found to a file, as JSON.")
    ] = None,
) -> None:
    """Prove that every engine gives the same answers: torch, the embedded engine, Triton.

    Each image is answered by the embedded engine, which ride serve runs, and by what --run and
    --triton name; a server is asked twice, with pixels (model ride) and with files (ride_image).
    Top-1, experts and router scores must be the same, probabilities within --tolerance, and a file
    that can't be decoded must be refused by all. Anything else is a difference: it is listed, and
    the exit status is 1.

    Two things are ties, listed too but no differences: other experts where a router's score is
    within 1e-3 of its threshold, and another top-1 whose probability is within --tolerance of the
    best.

    Comparing with a server needs no torch, and Parquet files need pyarrow.

    Example: ride verify photos/ --triton localhost:8001

    Example: ride verify cifar100/test.parquet --run runs/first --triton localhost:8001 --report
    verified.md
    """
    # slow to import, --help is not
    from verify.session import VerificationRequest, verify_session

    request = VerificationRequest(
        images=images,
        repository=repository,
        column=column,
        run=run,
        server=triton,
        tolerance=tolerance,
        report=report,
        json=json,
        command=shlex.join(["ride", *sys.argv[1:]]),
    )
    try:
        found = verify_session(request, Console())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if found.differences:
        raise typer.Exit(1)
