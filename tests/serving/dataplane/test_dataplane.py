"""The data plane that every transport calls: admission, order, names, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.app import build_data_plane
from serving.dataplane.classification import Classification, Classified
from serving.dataplane.dataplane import DataPlane
from serving.dataplane.inference import InferRequest, InferResponse, all_outputs
from serving.errors import InvalidImage, InvalidRequest, Overloaded, RequestTooLarge
from serving.images.decoders import EncodedImage
from serving.model.routing import Routed
from serving.settings import Settings

Pixels = NDArray[np.uint8]


@contextmanager
def plane_with(repository: Path, settings: Settings) -> Iterator[DataPlane]:
    plane = build_data_plane(repository, settings)
    try:
        yield plane
    finally:
        plane.close()


@pytest.fixture
def plane(repository: Path) -> Iterator[DataPlane]:
    with plane_with(repository, Settings(workers=2, max_waiting_images=60)) as plane:
        yield plane


async def classified(plane: DataPlane, images: list[EncodedImage], top_k: int = 5) -> Classified:
    with plane.admit() as admitted:
        return await admitted.classify(images, top_k)


def classify(plane: DataPlane, images: list[EncodedImage], top_k: int = 5) -> list[Classification]:
    return asyncio.run(classified(plane, images, top_k)).results


def infer(plane: DataPlane, tensor: NDArray[Any], **parameters: object) -> Routed:
    async def answer() -> InferResponse:
        with plane.admit("ride") as admitted:
            return await admitted.infer(InferRequest(tensor, parameters, all_outputs(binary=True)))

    return Routed(*(output.array for output in asyncio.run(answer()).outputs))


def test_answers_come_in_the_order_of_the_images_and_carry_their_names(
    plane: DataPlane, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    images = [EncodedImage(data, f"picture {i}") for i, data in enumerate(pictures)]
    answers = classify(plane, images, top_k=1)
    engine = plane.host.live.engine
    routed = engine.classify(pixels, engine.rule())
    assert [answer.name for answer in answers] == [image.name for image in images]
    assert [answer.experts_used for answer in answers] == routed.experts_used.tolist()
    best = routed.probabilities.argmax(axis=1)
    assert [answer.labels[0].index for answer in answers] == best.tolist()


def test_labels_are_the_most_probable_classes_best_first(
    plane: DataPlane, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    classes = plane.host.live.engine.manifest.num_classes
    labels = classify(plane, [EncodedImage(pictures[0])], top_k=classes)[0].labels
    probabilities = [label.probability for label in labels]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    engine = plane.host.live.engine
    expected = engine.classify(pixels[:1], engine.rule()).probabilities[0]
    for label in labels:
        assert label.label == plane.host.live.engine.manifest.class_names[label.index]
        assert label.probability == pytest.approx(expected[label.index], abs=1e-5)
    assert len({label.index for label in labels}) == classes


def test_compute_is_what_the_manifest_says_of_experts_and_routers(
    plane: DataPlane, pictures: tuple[bytes, ...]
) -> None:
    costs = plane.host.live.engine.manifest.multiply_adds
    full = costs.backbone + sum(costs.experts)
    for answer in classify(plane, [EncodedImage(data) for data in pictures]):
        routers = len(answer.router_scores)
        assert routers == min(answer.experts_used, plane.host.live.engine.manifest.num_experts - 1)
        spent = costs.backbone + sum(costs.experts[: answer.experts_used])
        spent += sum(costs.routers[:routers])
        assert answer.compute_share == pytest.approx(spent / full)


def test_tensors_are_answered_as_the_engine_does_however_many(
    plane: DataPlane, pixels: Pixels
) -> None:
    engine = plane.host.live.engine
    expected = engine.classify(pixels, engine.rule(threshold=0.0))
    for count in (1, 16, 17, len(pixels)):
        routed = infer(plane, pixels[:count], threshold=0.0)
        np.testing.assert_array_equal(routed.experts_used, expected.experts_used[:count])
        np.testing.assert_allclose(
            routed.probabilities, expected.probabilities[:count], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("top_k", [0, -1, 101])
def test_top_k_lies_between_one_and_the_number_of_classes(
    plane: DataPlane, pictures: tuple[bytes, ...], top_k: int
) -> None:
    with pytest.raises(InvalidRequest, match=f"top_k must lie between 1 and 100, not {top_k}"):
        classify(plane, [EncodedImage(pictures[0])], top_k)


def test_no_images_are_refused(plane: DataPlane) -> None:
    with pytest.raises(InvalidRequest, match="holds no image"):
        classify(plane, [])


@pytest.mark.parametrize("shape", [(), (32, 32, 3), (3_072,), (1, 3, 32, 32), (0, 32, 32, 3)])
def test_tensors_of_another_shape_are_refused(plane: DataPlane, shape: tuple[int, ...]) -> None:
    tensor = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(InvalidRequest, match="images must"):
        infer(plane, tensor)


def test_a_bad_image_is_named_and_fails_the_request(
    plane: DataPlane, pictures: tuple[bytes, ...]
) -> None:
    images = [EncodedImage(pictures[0], "good.png"), EncodedImage(b"no image", "bad.png")]
    with pytest.raises(InvalidImage, match=r"^bad\.png: "):
        classify(plane, images)
    assert len(classify(plane, images[:1])) == 1


def test_more_images_than_a_request_may_hold_are_too_many(
    repository: Path, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    with plane_with(repository, Settings(workers=1, max_images_per_request=2)) as plane:
        with pytest.raises(RequestTooLarge, match="may hold 2 images, not 3"):
            classify(plane, [EncodedImage(data) for data in pictures[:3]])
        with pytest.raises(RequestTooLarge, match="may hold 2 images, not 3"):
            infer(plane, pixels[:3])
        assert len(classify(plane, [EncodedImage(data) for data in pictures[:2]])) == 2


def test_what_never_finds_room_is_too_large_rather_than_to_be_tried_again(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    with (
        plane_with(repository, Settings(workers=1, max_waiting_images=1)) as plane,
        pytest.raises(RequestTooLarge, match="may hold 1 images, not 2"),
    ):
        classify(plane, [EncodedImage(data) for data in pictures[:2]])


def test_beyond_the_waiting_images_the_server_is_overloaded_until_there_is_room(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    images = [EncodedImage(data) for data in pictures[:2]]

    async def three_at_once(plane: DataPlane) -> list[object]:
        requests = [classified(plane, images, 1) for _ in range(3)]
        return list(await asyncio.gather(*requests, return_exceptions=True))

    with plane_with(repository, Settings(workers=1, max_waiting_images=4)) as plane:
        for _ in range(2):
            first, second, third = asyncio.run(three_at_once(plane))
            assert isinstance(first, Classified)
            assert isinstance(second, Classified)
            assert isinstance(third, Overloaded)


def test_room_is_given_back_after_errors_and_hang_ups(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    good = [EncodedImage(data) for data in pictures[:4]]

    async def stumble(plane: DataPlane) -> None:
        bad = [EncodedImage(b"") for _ in range(4)]
        with pytest.raises(InvalidImage):
            await classified(plane, bad, 1)
        cancelled = asyncio.create_task(classified(plane, good, 1))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert len((await classified(plane, good, 1)).results) == 4

    with plane_with(repository, Settings(workers=1, max_waiting_images=4)) as plane:
        asyncio.run(stumble(plane))
