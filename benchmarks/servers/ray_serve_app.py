"""The routed model behind Ray Serve. Arguments: port, replicas."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.images import decode
from benchmarks.raw import load_classifier


class Ride:
    """Decodes, classifies, answers the best class."""

    def __init__(self) -> None:
        self._classify = load_classifier("routed", Path(os.environ["RIDE_BENCH_REPOSITORY"]))

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Of one image."""
        probabilities, experts = self._classify(decode(await request.body())[np.newaxis])
        return {"index": int(probabilities[0].argmax()), "experts_used": experts}


if __name__ == "__main__":
    port, replicas = map(int, sys.argv[1:])
    ray.init(num_cpus=replicas, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    options: dict[str, Any] = {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 1}}
    serve.run(serve.deployment(**options)(Ride).bind())
    threading.Event().wait()
