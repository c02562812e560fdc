"""`ride bench`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_SERVERS_HELP = (
    "Servers to compare with, separated by commas: triton-bls, triton-one-graph, litserve, "
    "bentoml, ray-serve, mlserver, fastapi-torch; all or none."
)
_QUICK_DURATION_S, _FULL_DURATION_S = 3.0, 10.0
_QUICK_CLIENTS, _FULL_CLIENTS = (1, 16), (1, 16, 64)
_QUICK_EVERY = 4
_QUICK_REQUESTS, _FULL_REQUESTS = 2_000, 200_000


def bench(
    repository: Annotated[
        Path, typer.Argument(metavar="[MODEL_REPOSITORY]", help="Model repository to serve.")
    ] = Path("model_repository"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="About two minutes: a quarter of the images, fewer clients, no other servers, "
            "no growth.",
        ),
    ] = False,
    servers: Annotated[str | None, typer.Option(help=_SERVERS_HELP)] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3600, help="Seconds for each point of a table, about; 10, or 3 if quick."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this section again and keep the others' figures: raw, this-server, load, "
            "memory, growth, or a server's name. May be given more than once."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave out sections that the output's JSON already has."),
    ] = False,
    growth: Annotated[
        bool | None,
        typer.Option(
            help="Also measure how cost grows with image size, batch and clients; needs PyTorch. "
            "The default unless quick."
        ),
    ] = None,
    objective_ms: Annotated[
        float, typer.Option(min=1, help="Time to an answer that counts as good under overload.")
    ] = 100.0,
    memory_requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000_000,
            help="Requests of the memory test; 200,000, or 2,000 if quick.",
        ),
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            help="A model repository that ride export --quantize int8 wrote of the same model: "
            "measure it too, in bare ONNX Runtime and as this server serves it."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The page to write; figures go into a .json beside it.")
    ] = Path("docs/benchmarks.md"),
) -> None:
    """Measure this server against bare ONNX Runtime and other servers; write a page of tables.

    Needs Linux on x86-64, a checkout of the repository and an idle machine: anything else that
    runs is in the figures. Other servers are installed into .tools, each in a virtual environment
    of its own, when they are first asked for; what can't be installed is named in the table.

    The page is written after each section, so a run can be stopped: --resume goes on, --only
    repeats a part. Ratios are sound where all sections come from one run.

    Example: ride bench --quick --output /tmp/benchmarks.md

    Example: ride bench --only triton-bls --only raw
    """
    from benchmarks.images import read_images
    from benchmarks.plan import Plan
    from benchmarks.servers.catalogue import OTHER_SERVERS
    from benchmarks.session import bench_session

    every = _QUICK_EVERY if quick else 1
    plan = Plan(
        repository=repository,
        images=read_images(every=every),
        every=every,
        duration_s=duration or (_QUICK_DURATION_S if quick else _FULL_DURATION_S),
        clients=_QUICK_CLIENTS if quick else _FULL_CLIENTS,
        objective_ms=objective_ms,
        memory_requests=memory_requests or (_QUICK_REQUESTS if quick else _FULL_REQUESTS),
        int8=int8,
    )
    bench_session(
        plan,
        output,
        servers=_names(servers or ("none" if quick else "all"), list(OTHER_SERVERS)),
        growth=not quick if growth is None else growth,
        only=only or [],
        resume=resume,
        command=shlex.join(["ride", *sys.argv[1:]]),
        console=Console(stderr=True),
    )


def _names(given: str, known: list[str]) -> list[str]:
    if given in ("all", "none"):
        return known if given == "all" else []
    return list(dict.fromkeys(name.strip() for name in given.split(",")))
