"""Plain FastAPI and PyTorch: what one writes in an afternoon, all experts, no graph export."""

from __future__ import annotations

import sys

from benchmarks.servers.ride import files
from benchmarks.servers.server import CHECKOUT, Contender, HttpWay, Place
from benchmarks.start import Start


def _start(place: Place) -> Start:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.servers.fastapi_torch_app:app"]
    flags = ["--host=127.0.0.1", f"--port={place.port}", f"--workers={place.cores}"]
    checkpoint = str(CHECKOUT / "checkpoints" / "cifar100-lt")
    environment = {"RIDE_BENCH_CHECKPOINT": checkpoint, "OMP_NUM_THREADS": "1"}
    return Start([*command, *flags, "--no-access-log"], environment)


CONTENDER = Contender(
    name="fastapi-torch",
    title="FastAPI + PyTorch",
    settings="one uvicorn worker a core, eager fp32, one thread each; the PNG file as the body",
    requirements=(),
    start=_start,
    way=HttpWay("/classify", files, {"Content-Type": "image/png"}),
    ready_path="/health",
    routed=False,
)
