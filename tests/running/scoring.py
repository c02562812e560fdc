"""`ride score` in a process of its own, which needs not import everything anew."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["ride", "scoring.session"])


def start_scoring(*arguments: object) -> ForkServerProcess:
    """Start the command in the working directory; it prints nothing."""
    flags = list(map(str, arguments))
    process = _CONTEXT.Process(target=_run, args=(os.getcwd(), flags))  # noqa: PTH109
    process.start()
    return process


def _run(directory: str, arguments: list[str]) -> None:
    from ride import main  # noqa: PLC0415 where the process is forked, it is there already

    os.chdir(directory)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.argv = ["ride", "score", *arguments]
    main()
