"""`GET /v1/audit`: what routing costs in accuracy, and whether images have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import Response

from serving.audit.audited import AuditedImages
from serving.audit.auditor import AuditState
from serving.dataplane.dataplane import DataPlane
from serving.dataplane.live_model import LiveModel
from serving.metrics.drift import StageDrift
from serving.model.manifest import MODEL_NAME
from serving.model.proportion import CONFIDENCE, Proportion


@dataclass(frozen=True)
class DriftBody:
    """A stage's share that goes on, now and when the model was measured."""

    stage: int
    observed: Proportion
    expected: Proportion | None
    evidence: float
    detected: bool

    @classmethod
    def of(cls, drift: StageDrift) -> DriftBody:
        """As it is now."""
        return cls(drift.stage, drift.observed, drift.expected, drift.evidence, drift.detected)


@dataclass(frozen=True)
class SamplesBody:
    """The newest audited images, one entry each in every list, in no particular order.

    `router_scores` holds those of all K-1 routers, `predictions` the class that the first
    1, 2, .. K experts answer, `experts_used` how many the client's answer had taken.
    """

    router_scores: list[list[float]]
    predictions: list[list[int]]
    experts_used: list[int]

    @classmethod
    def of(cls, images: AuditedImages) -> SamplesBody:
        """As lists."""
        return cls(
            images.router_scores.tolist(), images.predictions.tolist(), images.experts_used.tolist()
        )


@dataclass(frozen=True)
class AuditBody:
    """The answer of `GET /v1/audit`; every interval is of this `confidence`."""

    model: str
    version: str
    thresholds: list[float]
    confidence: float
    audit: AuditState
    drift: list[DriftBody]
    samples: SamplesBody | None

    @classmethod
    def of(cls, live: LiveModel, *, samples: bool) -> AuditBody:
        """What is known of a version now."""
        return cls(
            model=MODEL_NAME,
            version=live.version,
            thresholds=list(live.own_rule.thresholds),
            confidence=CONFIDENCE,
            audit=live.auditor.state(),
            drift=[DriftBody.of(stage) for stage in live.drift.stages()],
            samples=SamplesBody.of(live.auditor.audited()) if samples else None,
        )


def audit_router(plane: DataPlane) -> APIRouter:
    """The route, for operators."""
    router = APIRouter(tags=["operators"])

    @router.get("/v1/audit", response_model=AuditBody)
    async def audit(
        samples: Annotated[
            bool, Query(description="Add scores and answers of each image, for `ride calibrate`.")
        ] = False,
    ) -> Response:
        """How answers compare with the full ensemble's, and whether images have changed.

        Only images count that the model's own rule answered, as no request or load changed it.
        """
        body = AuditBody.of(plane.host.live, samples=samples)
        return Response(orjson.dumps(body), media_type="application/json")

    return router
