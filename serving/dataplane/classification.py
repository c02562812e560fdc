"""Encoded images and what is said of them, whoever runs the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.images.decoders import EncodedImage
from serving.metrics.registry import Registry
from serving.model.manifest import Manifest
from serving.model.parameters import CostParameters
from serving.model.routing import Routed
from serving.model.top_k import top_k_classes
from serving.model.versions import ModelVersion
from serving.settings import Settings


@dataclass(frozen=True)
class Label:
    """A class and its probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Classification:
    """The answer for one image.

    Attributes:
        name: the client's name for the image, if it gave one.
        labels: the most probable classes, best first.
        experts_used: from 1 to K.
        router_scores: of the routers that were asked, in order.
        compute_share: multiply-adds spent, as a share of the full ensemble's.
    """

    name: str | None
    labels: tuple[Label, ...]
    experts_used: int
    router_scores: tuple[float, ...]
    compute_share: float


@dataclass(frozen=True)
class Answer:
    """What a request gets; `degraded` if too much load made it cost less than it asked for."""

    routed: Routed
    degraded: bool


@dataclass(frozen=True)
class Classified:
    """The answers for a request's images, by a version; see `Answer` for `degraded`."""

    version: str
    degraded: bool
    results: list[Classification]


class AdmittedImages(Protocol):
    """A request for images that will be answered."""

    def ask_for(self, parameters: CostParameters) -> None:
        """Have it cost what they say; raises what is wrong with them."""

    async def classify(self, images: Sequence[EncodedImage], top_k: int) -> Classified:
        """Answer all images, with so many labels each, or raise what names the first bad one."""


class ImagePlane(Protocol):
    """What classifies encoded images: a model in this process, or Triton servers."""

    settings: Settings

    def admit(self) -> AbstractContextManager[AdmittedImages]:
        """Take in a request before anything of it is read.

        Raises:
            RideError: if it would be refused whatever its images are.
        """

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""

    @property
    def served(self) -> ModelVersion:
        """The version that new requests go to.

        Raises:
            RideError: if there is none.
        """

    @property
    def registry(self) -> Registry:
        """Of all its metrics."""


def classified(
    version: str, manifest: Manifest, images: Sequence[EncodedImage], answer: Answer, top_k: int
) -> Classified:
    """An answer in words: one result an image, with its `top_k` most probable classes."""
    results = [
        _classification(manifest, answer.routed, row, image.name, top_k)
        for row, image in enumerate(images)
    ]
    return Classified(version, answer.degraded, results)


def _classification(
    manifest: Manifest, routed: Routed, row: int, name: str | None, top_k: int
) -> Classification:
    probabilities = routed.probabilities[row]
    best = top_k_classes(probabilities[np.newaxis], top_k)[0]
    scores = routed.router_scores[row]
    asked = tuple(float(score) for score in scores[np.isfinite(scores)])
    experts = int(routed.experts_used[row])
    spent = manifest.multiply_adds.spent(experts, len(asked))
    return Classification(
        name=name,
        labels=tuple(
            Label(manifest.class_names[index], int(index), float(probabilities[index]))
            for index in best
        ),
        experts_used=experts,
        router_scores=asked,
        compute_share=spent / manifest.multiply_adds.all_experts,
    )
