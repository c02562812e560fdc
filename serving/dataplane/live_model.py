"""A model version that is being served: engine, scheduler, statistics, and who still uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.audit.auditor import Auditor
from serving.dataplane.catalogue import Catalogue
from serving.dataplane.metrics import EmbeddedMetrics
from serving.engine.full_ensemble import FullEnsembleEstimate
from serving.engine.graphs import Engine, load_engine
from serving.engine.overload import Allowed, GearLadder, OverloadControl
from serving.engine.provider import Provider
from serving.engine.reports import BatchReport
from serving.engine.scheduler import Scheduler
from serving.engine.stage_costs import measure_costs
from serving.metrics.drift import DriftWatch, expected_go_on
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME
from serving.model.parameters import CostParameters
from serving.model.repository import graph_models
from serving.model.routing import Routed, RoutingRule
from serving.settings import Settings


class LiveModel:
    """A loaded, warm version. It closes itself once it is retired and nobody uses it any more."""

    def __init__(self, engine: Engine, settings: Settings, metrics: EmbeddedMetrics) -> None:
        manifest = engine.manifest
        self.engine = engine
        self.catalogue = Catalogue(engine, settings.most_images)
        self.metrics = metrics
        self.statistics = metrics.statistics.of(
            engine.version, (MODEL_NAME, IMAGE_MODEL_NAME, *graph_models(manifest.num_experts))
        )
        self.ladder = GearLadder.of(manifest, settings.degrade_to)
        self.overload = OverloadControl(len(self.ladder.thresholds), settings.latency_objective_s)
        workers = settings.threads if settings.provider is Provider.CPU else 1
        costs = measure_costs(engine)
        self._full_ensemble = FullEnsembleEstimate(costs)
        self.scheduler = Scheduler(engine, costs, workers, self._count)
        self.own_rule = engine.rule()
        self.drift = DriftWatch(expected_go_on(manifest), manifest.num_experts)
        self.auditor = Auditor(engine, settings.audit_share, self._is_quiet, metrics.registry)
        self._users = 0
        self._retired: Callable[[], object] | None = None

    def rule(self, parameters: CostParameters) -> RoutingRule:
        """The routing rule that a request's parameters ask for; without any, `own_rule`.

        Raises:
            InvalidRequest: if one is out of range or contradicts another.
        """
        return parameters.rule(self.engine.manifest)

    def observe_answers(self, images: NDArray[np.uint8], routed: Routed, allowed: Allowed) -> None:
        """Take note of how images were answered, on the event loop's thread.

        Only where neither a request nor load changed the model's own rule do they say something of
        how it does.
        """
        if allowed.degraded:
            self.metrics.answers.observe_degraded(len(images))
        if allowed.rule == self.own_rule:
            self.metrics.answers.observe_own_rule(routed.experts_used)
            self.drift.observe(routed.experts_used)
            self.auditor.consider(images, routed)

    @property
    def version(self) -> str:
        """The version as clients write it."""
        return str(self.engine.version)

    def __enter__(self) -> Self:
        """Use it for the length of a `with` block, on the event loop's thread."""
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        self._close_if_unused()

    def retire(self, close: Callable[[], object]) -> None:
        """Call `close` as soon as nobody uses it; new requests must go elsewhere already."""
        self._retired = close
        self._close_if_unused()

    def close(self) -> None:
        """Stop audit and workers; batches under way end first."""
        self.auditor.close()
        self.scheduler.close()

    def _close_if_unused(self) -> None:
        if self._retired is not None and not self._users:
            close, self._retired = self._retired, None
            close()

    def _is_quiet(self) -> bool:
        return self.scheduler.rests and not self.overload.level

    def _count(self, report: BatchReport) -> None:
        self.statistics.observe_batch(report)
        full_s = self._full_ensemble.observe(report.stage, report.rows, report.seconds)
        self.metrics.stages.observe_batch(report, full_s)
        if len(report.done):
            costs, version = self.engine.manifest.multiply_adds, self.engine.version
            self.metrics.answers.observe(report.done, costs, version, report.exemplar)


def load_live_model(
    repository: Path, version: int | None, settings: Settings, metrics: EmbeddedMetrics
) -> LiveModel:
    """Load a version (the latest unless one is named), try it out and warm it up.

    Raises:
        ModelRepositoryError: if it can't be served.
        SettingsError: if the execution provider does not work on this machine.
        InferenceError: if a graph fails on larger batches.
    """
    engine = load_engine(repository, version, settings.provider)
    return LiveModel(engine, settings, metrics)
