"""`ride verify`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace

import typer
from rich.console import Console

from serving.options import with_options
from verify.request import VerificationRequest


@with_options()
def verify(request: VerificationRequest) -> None:
    """Prove that every engine gives the same answers: torch, the embedded engine, Triton.

    Each image is answered by the embedded engine, which ride serve runs, and by what --run and
    --triton name; a server is asked twice, with pixels (model ride) and with files (ride_image),
    or as --models says: ride_graph is the graph that routes by itself.
    Top-1, experts and router scores must be the same, probabilities within --tolerance, and a file
    that can't be decoded must be refused by all. Anything else is a difference: it is listed, and
    the exit status is 1.

    Two things are ties, listed too but no differences: other experts where a router's score is
    within 1e-3 of its threshold, and another top-1 whose probability is within --tolerance of the
    best.

    Comparing with a server needs no torch, and Parquet files need pyarrow.

    Example: ride verify photos/ --triton localhost:8001

    Example: ride verify photos/ --triton localhost:8001 --models ride_graph

    Example: ride verify cifar100/test.parquet --run runs/first --triton localhost:8001 --report
    verified.md
    """
    from verify.session import verify_session  # slow to import, --help is not

    request = replace(request, command=shlex.join(["ride", *sys.argv[1:]]))
    found = verify_session(request, Console())
    if found.differences:
        raise typer.Exit(1)
