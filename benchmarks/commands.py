"""`ride bench`."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console

from benchmarks.request import BenchRequest
from serving.options import with_options


@with_options()
def bench(request: BenchRequest) -> None:
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

    servers = request.servers or ("none" if request.quick else "all")
    bench_session(
        Plan(images=read_images(every=request.every), **request.plan),
        request.output,
        servers=_names(servers, list(OTHER_SERVERS)),
        growth=not request.quick if request.growth is None else request.growth,
        only=request.only or [],
        resume=request.resume,
        command=shlex.join(["ride", *sys.argv[1:]]),
        console=Console(stderr=True),
    )


def _names(given: str, known: list[str]) -> list[str]:
    if given in ("all", "none"):
        return known if given == "all" else []
    return list(dict.fromkeys(name.strip() for name in given.split(",")))
