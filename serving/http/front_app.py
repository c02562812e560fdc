"""The HTTP application in front of Triton servers: images only, tensors are for Triton itself."""

from __future__ import annotations

from starlette.types import ASGIApp

from serving.dataplane.classification import ImagePlane
from serving.http.classify import ClassifyRoute
from serving.http.framework import bounded, framework
from serving.metrics.request_recorder import RequestRecorder


def create_front_app(plane: ImagePlane, recorder: RequestRecorder) -> ASGIApp:
    """The application, with its limits; requests are recorded."""
    classify = ClassifyRoute(plane)
    app = framework(plane, classify.router())
    return bounded(app, plane, recorder, classify)
