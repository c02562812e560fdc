"""The metrics of a server that runs the model itself."""

from __future__ import annotations

from serving.audit.metrics import AuditMetrics
from serving.metrics.answers import AnswerMetrics
from serving.metrics.registry import server_registry
from serving.metrics.requests import RequestMetrics
from serving.metrics.stages import StageMetrics


class EmbeddedMetrics:
    """What is counted, whichever version answers, all of it in one registry."""

    def __init__(self) -> None:
        self.registry = server_registry()
        self.requests = RequestMetrics(self.registry)
        self.answers = AnswerMetrics(self.registry)
        self.stages = StageMetrics(self.registry)
        self.audit = AuditMetrics(self.registry)
