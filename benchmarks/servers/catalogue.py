"""Every server that `ride bench` knows besides this one."""

from __future__ import annotations

from benchmarks.servers import bentoml, fastapi_torch, litserve, mlserver, ray_serve, triton
from benchmarks.servers.server import Contender

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        triton.BLS,
        triton.ONE_GRAPH,
        litserve.CONTENDER,
        bentoml.CONTENDER,
        ray_serve.CONTENDER,
        mlserver.CONTENDER,
        fastapi_torch.CONTENDER,
    )
}
