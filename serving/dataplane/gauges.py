"""Gauges of a server that runs the model itself: how things are when a scrape comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serving.audit.metrics import audit_measurements
from serving.dataplane.live_model import LiveModel
from serving.dataplane.model_host import ModelHost
from serving.engine.loop_lag import LoopLag
from serving.metrics import definitions as define
from serving.metrics.definitions import stage_label
from serving.metrics.measurements import Measurement, drift_measurements
from serving.metrics.registry import Registry


def observe_gauges(
    registry: Registry,
    host: ModelHost,
    loop_lag: LoopLag,
    level: Callable[[LiveModel], int],
    objective_s: float,
) -> None:
    """Have them read at each scrape; `level` tells the degradation level of a version."""

    def read() -> Iterator[Measurement]:
        yield Measurement(define.LATENCY_OBJECTIVE, objective_s)
        yield Measurement(define.EVENT_LOOP_LAG, loop_lag.seconds)
        yield Measurement(define.DEGRADATION_LEVEL, level(host.live) if host.ready else 0)
        yield from _of_version(host.live) if host.ready else audit_measurements(None, 0)

    registry.read_when_scraped(read)


def _of_version(live: LiveModel) -> Iterator[Measurement]:
    for stage, depth in enumerate(live.scheduler.queue_depths, 1):
        yield Measurement(define.QUEUE_DEPTH, depth, (stage_label(stage),))
    yield from drift_measurements(live.drift.stages())
    yield from audit_measurements(live.auditor.audited(), live.auditor.waiting)
