"""`GET /v1/model`: what is served, for whoever chooses parameters or explains answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from serving.dataplane.classification import ImagePlane
from serving.model.manifest import MODEL_NAME, Gear, ImageSpec, MultiplyAdds


class LimitsBody(BaseModel):
    """What a request may hold at most; beyond it, status 413."""

    body_bytes: int
    image_bytes: int
    image_pixels: int
    images: int


class ModelBody(BaseModel):
    """The version that new requests go to, as its manifest describes it.

    `class_counts` are training images of each class. An image goes on from expert i where router
    i's score is above `thresholds[i - 1]`; `gears` are the values of the parameter `quality`, with
    what each gave when it was measured; `evaluation` is what the model's own thresholds gave.
    """

    model: str
    version: str
    precision: str
    num_experts: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    image: ImageSpec
    thresholds: tuple[float, ...]
    gears: Mapping[str, Gear]
    multiply_adds: MultiplyAdds
    evaluation: Mapping[str, Any]
    limits: LimitsBody


def model_router(plane: ImagePlane) -> APIRouter:
    """The route, in front of whatever knows which version is served."""
    settings = plane.settings
    limits = LimitsBody(
        body_bytes=settings.max_body_bytes,
        image_bytes=settings.max_image_bytes,
        image_pixels=settings.max_image_pixels,
        images=settings.most_images,
    )
    router = APIRouter(tags=["images"])

    @router.get("/v1/model")
    async def model() -> ModelBody:
        """The served version: classes, experts, thresholds, gears and costs."""
        version = plane.served
        manifest = version.manifest
        return ModelBody(
            model=MODEL_NAME,
            version=str(version.number),
            precision=manifest.precision,
            num_experts=manifest.num_experts,
            class_names=manifest.class_names,
            class_counts=manifest.class_counts,
            image=manifest.image,
            thresholds=manifest.thresholds,
            gears=manifest.gears,
            multiply_adds=manifest.multiply_adds,
            evaluation=manifest.evaluation,
            limits=limits,
        )

    return router
