"""A Ray cluster: joining one, or starting one here, and how many workers fit on it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import ray
import ray.data
from grpc_health.v1 import health_pb2, health_pb2_grpc

from scoring.errors import RayError

_OBJECT_STORE_BYTES = 80 * 2**20
"""Of a cluster started here: only names of files and counts go through it."""

_ANSWERS_WITHIN_S = 5


@dataclass(frozen=True)
class ActorPool:
    """So many workers of so many threads, each with so many GPUs."""

    actors: int
    threads: int
    gpus: int


@contextmanager
def cluster_connection(address: str | None, threads: int) -> Iterator[None]:
    """Be connected to a cluster while entered. One that this process has joined already is used.

    Args:
        address: of a running cluster; None to start one here.
        threads: processors of the one that is started.

    Raises:
        RayError: if there is none.
    """
    # Nothing is reported to Ray's makers, and what it says of its own insides stays inside.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if ray.is_initialized():
        _keep_quiet()
        yield
        return
    if address not in (None, "auto"):
        _require_answer(str(address))
    own: dict[str, Any] = {}
    if address is None:
        own = {
            "num_cpus": threads,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RayError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    signal.signal(signal.SIGTERM, on_term)  # Ray's own would end this process at once
    try:
        _keep_quiet()
        yield
    finally:
        ray.shutdown()


def actor_pool(actors: int | None, threads: int, *, on_gpu: bool) -> ActorPool:
    """The workers that fit on the cluster.

    Args:
        actors: how many are wanted; None for one a node, or one a GPU.
        threads: of each; 0 for the processors of the smallest node, divided among its workers.
        on_gpu: whether each takes a GPU.

    Raises:
        RayError: if they do not fit.
    """
    nodes = [node["Resources"] for node in _nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if on_gpu and not gpus:
        raise RayError("the cluster has no GPU")
    each_node = max(1, -(-(actors or (gpus if on_gpu else len(nodes))) // len(nodes)))
    threads = threads or max(1, min((n for n in cpus if n), default=0) // each_node)
    fitting = sum(n // threads for n in cpus)
    if on_gpu:
        fitting = min(fitting, gpus)
    if fitting < (actors or 1):
        raise RayError(
            f"{actors or 1} workers of {threads} processors do not fit on the cluster, which has "
            f"{sum(cpus)}{f' and {gpus} GPUs' if on_gpu else ''} on {len(nodes)} nodes"
        )
    return ActorPool(actors or fitting, threads, 1 if on_gpu else 0)


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def _keep_quiet() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Its errors are raised too; as it is stopped, it logs tracebacks of tasks that it ended itself.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _require_answer(address: str) -> None:
    """Ray itself would wait for minutes."""
    with grpc.insecure_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_ANSWERS_WITHIN_S
            )
        except grpc.RpcError as error:
            raise RayError(
                f"no Ray cluster answers at {address}: {error.code().name.lower()}"
            ) from error
