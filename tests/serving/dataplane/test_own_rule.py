"""Which images the model's own rule answered, and what load does to a request: by value, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from serving.app import build_data_plane
from serving.dataplane.classification import Classified
from serving.dataplane.dataplane import DataPlane
from serving.dataplane.inference import InferRequest, InferResponse, all_outputs
from serving.engine.overload import Load
from serving.errors import Overloaded
from serving.images.decoders import EncodedImage
from serving.model.parameters import CostParameters
from serving.settings import Settings
from tests.running.waiting import wait_until

Pixels = NDArray[np.uint8]


@pytest.fixture
def plane(repository: Path) -> Iterator[DataPlane]:
    plane = build_data_plane(repository, Settings(workers=1))
    yield plane
    plane.close()


def classify(
    plane: DataPlane,
    pictures: tuple[bytes, ...],
    parameters: dict[str, object] | None = None,
) -> Classified:
    async def answered() -> Classified:
        with plane.admit() as admitted:
            admitted.ask_for(CostParameters.model_validate(parameters or {}))
            return await admitted.classify([EncodedImage(data) for data in pictures], 1)

    return asyncio.run(answered())


def infer(plane: DataPlane, pixels: Pixels, **parameters: object) -> InferResponse:
    async def answered() -> InferResponse:
        with plane.admit("ride") as admitted:
            return await admitted.infer(InferRequest(pixels, parameters, all_outputs(binary=True)))

    return asyncio.run(answered())


def counted(plane: DataPlane, name: str) -> float:
    text = plane.registry.exposition("").content.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


OWN = {
    "nothing asked": ({}, True),
    "as many experts as there are": ({"max_experts": 3}, True),
    "fewer experts": ({"max_experts": 2}, False),
    "another threshold": ({"threshold": 0.5}, False),
    "another gear": ({"quality": "full"}, False),
}


@pytest.mark.parametrize(("parameters", "own"), OWN.values(), ids=OWN)
def test_an_image_counts_for_the_own_rule_where_the_numbers_are_the_models(
    plane: DataPlane,
    pictures: tuple[bytes, ...],
    pixels: Pixels,
    parameters: dict[str, object],
    own: bool,
) -> None:
    classify(plane, pictures[:5], parameters)
    infer(plane, pixels[:3], **parameters)
    wait_until(lambda: counted(plane, "ride_images_total") == 8)  # workers count after they answer
    assert counted(plane, "ride_own_rule_images_total") == (8 if own else 0)


def test_what_load_made_cheaper_is_marked_and_does_not_count_for_the_own_rule(
    plane: DataPlane, pictures: tuple[bytes, ...]
) -> None:
    objective_s = plane.settings.latency_objective_s
    plane.host.live.overload.observe(0.65 * objective_s, time.monotonic())  # one step down
    assert classify(plane, pictures[:5]).degraded
    assert counted(plane, "ride_images_degraded_total") == 5
    assert counted(plane, "ride_own_rule_images_total") == 0
    # Load takes nothing from what takes one expert anyway.
    assert not classify(plane, pictures[:5], {"max_experts": 1}).degraded
    assert counted(plane, "ride_images_degraded_total") == 5


def test_overload_control_is_told_once_of_each_request(
    plane: DataPlane, pictures: tuple[bytes, ...], pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    overload, told = plane.host.live.overload, []
    observe = overload.observe

    def watched(wait_s: float, now: float) -> Load:
        told.append(wait_s)
        return observe(wait_s, now)

    monkeypatch.setattr(overload, "observe", watched)
    classify(plane, pictures[:2])
    assert len(told) == 1
    infer(plane, pixels[:2])
    assert len(told) == 2
    plane.loop_lag.seconds = 2 * plane.settings.latency_objective_s  # no answer would be in time
    classify(plane, pictures[:2])  # at the lowest cost, before anybody is refused
    assert len(told) == 3
    with pytest.raises(Overloaded):
        classify(plane, pictures[:2])
    assert len(told) == 4
