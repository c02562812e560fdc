"""The metrics of a server that runs the model itself."""

from __future__ import annotations

from serving.metrics.answers import AnswerMetrics
from serving.metrics.definitions import Server
from serving.metrics.registry import Registry
from serving.metrics.requests import RequestMetrics
from serving.metrics.stages import StageMetrics
from serving.metrics.statistics import StatisticsOfVersions


class EmbeddedMetrics:
    """What is counted, whichever version answers: one registry, and statistics by version."""

    def __init__(self) -> None:
        self.registry = Registry(Server.EMBEDDED)
        self.requests = RequestMetrics(self.registry)
        self.answers = AnswerMetrics(self.registry)
        self.stages = StageMetrics(self.registry)
        self.statistics = StatisticsOfVersions()
