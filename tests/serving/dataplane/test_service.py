"""The service that every transport calls: admission, order, names, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.app import build_service
from serving.dataplane.classification import Classification, Classified
from serving.dataplane.service import ClassificationService
from serving.errors import InvalidImage, InvalidRequest, Overloaded, RequestTooLarge
from serving.images.decoders import EncodedImage
from serving.model.routing import Routed, RoutingRule
from serving.settings import Settings

Pixels = NDArray[np.uint8]


@contextmanager
def service_with(repository: Path, settings: Settings) -> Iterator[ClassificationService]:
    service = build_service(repository, settings)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def service(repository: Path) -> Iterator[ClassificationService]:
    with service_with(repository, Settings(workers=2, max_waiting_images=60)) as service:
        yield service


def classify(
    service: ClassificationService, images: list[EncodedImage], top_k: int = 5
) -> list[Classification]:
    live = service.host.live
    return asyncio.run(service.classify(live, images, live.engine.rule(), top_k)).results


def infer(
    service: ClassificationService, tensor: NDArray[Any], rule: RoutingRule | None = None
) -> Routed:
    live = service.host.live
    return asyncio.run(service.infer(live, tensor, rule or live.engine.rule())).routed


def test_answers_come_in_the_order_of_the_images_and_carry_their_names(
    service: ClassificationService, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    images = [EncodedImage(data, f"picture {i}") for i, data in enumerate(pictures)]
    answers = classify(service, images, top_k=1)
    engine = service.host.live.engine
    routed = engine.classify(pixels, engine.rule())
    assert [answer.name for answer in answers] == [image.name for image in images]
    assert [answer.experts_used for answer in answers] == routed.experts_used.tolist()
    best = routed.probabilities.argmax(axis=1)
    assert [answer.labels[0].index for answer in answers] == best.tolist()


def test_labels_are_the_most_probable_classes_best_first(
    service: ClassificationService, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    classes = service.host.live.engine.manifest.num_classes
    labels = classify(service, [EncodedImage(pictures[0])], top_k=classes)[0].labels
    probabilities = [label.probability for label in labels]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    engine = service.host.live.engine
    expected = engine.classify(pixels[:1], engine.rule()).probabilities[0]
    for label in labels:
        assert label.label == service.host.live.engine.manifest.class_names[label.index]
        assert label.probability == pytest.approx(expected[label.index], abs=1e-5)
    assert len({label.index for label in labels}) == classes


def test_compute_is_what_the_manifest_says_of_experts_and_routers(
    service: ClassificationService, pictures: tuple[bytes, ...]
) -> None:
    costs = service.host.live.engine.manifest.multiply_adds
    full = costs.backbone + sum(costs.experts)
    for answer in classify(service, [EncodedImage(data) for data in pictures]):
        routers = len(answer.router_scores)
        assert routers == min(
            answer.experts_used, service.host.live.engine.manifest.num_experts - 1
        )
        spent = costs.backbone + sum(costs.experts[: answer.experts_used])
        spent += sum(costs.routers[:routers])
        assert answer.compute_share == pytest.approx(spent / full)


def test_tensors_are_answered_as_the_engine_does_however_many(
    service: ClassificationService, pixels: Pixels
) -> None:
    engine = service.host.live.engine
    rule = engine.rule(threshold=0.0)
    expected = engine.classify(pixels, rule)
    for count in (1, 16, 17, len(pixels)):
        routed = infer(service, pixels[:count], rule)
        np.testing.assert_array_equal(routed.experts_used, expected.experts_used[:count])
        np.testing.assert_allclose(
            routed.probabilities, expected.probabilities[:count], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("top_k", [0, -1, 101])
def test_top_k_lies_between_one_and_the_number_of_classes(
    service: ClassificationService, pictures: tuple[bytes, ...], top_k: int
) -> None:
    with pytest.raises(InvalidRequest, match=f"top_k must lie between 1 and 100, not {top_k}"):
        classify(service, [EncodedImage(pictures[0])], top_k)


def test_no_images_are_refused(service: ClassificationService) -> None:
    with pytest.raises(InvalidRequest, match="holds no image"):
        classify(service, [])


@pytest.mark.parametrize("shape", [(), (32, 32, 3), (3_072,), (1, 3, 32, 32), (0, 32, 32, 3)])
def test_tensors_of_another_shape_are_refused(
    service: ClassificationService, shape: tuple[int, ...]
) -> None:
    tensor = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(InvalidRequest, match="images must"):
        infer(service, tensor)


def test_a_bad_image_is_named_and_fails_the_request(
    service: ClassificationService, pictures: tuple[bytes, ...]
) -> None:
    images = [EncodedImage(pictures[0], "good.png"), EncodedImage(b"no image", "bad.png")]
    with pytest.raises(InvalidImage, match=r"^bad\.png: "):
        classify(service, images)
    assert len(classify(service, images[:1])) == 1


def test_more_images_than_a_request_may_hold_are_too_many(
    repository: Path, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    with service_with(repository, Settings(workers=1, max_images_per_request=2)) as service:
        with pytest.raises(RequestTooLarge, match="may hold 2 images, not 3"):
            classify(service, [EncodedImage(data) for data in pictures[:3]])
        with pytest.raises(RequestTooLarge, match="may hold 2 images, not 3"):
            infer(service, pixels[:3])
        assert len(classify(service, [EncodedImage(data) for data in pictures[:2]])) == 2


def test_what_never_finds_room_is_too_large_rather_than_to_be_tried_again(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    with (
        service_with(repository, Settings(workers=1, max_waiting_images=1)) as service,
        pytest.raises(RequestTooLarge, match="may hold 1 images, not 2"),
    ):
        classify(service, [EncodedImage(data) for data in pictures[:2]])


def test_beyond_the_waiting_images_the_server_is_overloaded_until_there_is_room(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    images = [EncodedImage(data) for data in pictures[:2]]

    async def three_at_once(service: ClassificationService) -> list[object]:
        live = service.host.live
        rule = live.engine.rule()
        requests = [service.classify(live, images, rule, 1) for _ in range(3)]
        return list(await asyncio.gather(*requests, return_exceptions=True))

    with service_with(repository, Settings(workers=1, max_waiting_images=4)) as service:
        for _ in range(2):
            first, second, third = asyncio.run(three_at_once(service))
            assert isinstance(first, Classified)
            assert isinstance(second, Classified)
            assert isinstance(third, Overloaded)


def test_room_is_given_back_after_errors_and_hang_ups(
    repository: Path, pictures: tuple[bytes, ...]
) -> None:
    good = [EncodedImage(data) for data in pictures[:4]]

    async def stumble(service: ClassificationService) -> None:
        live = service.host.live
        rule = live.engine.rule()
        bad = [EncodedImage(b"") for _ in range(4)]
        with pytest.raises(InvalidImage):
            await service.classify(live, bad, rule, 1)
        cancelled = asyncio.create_task(service.classify(live, good, rule, 1))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert len((await service.classify(live, good, rule, 1)).results) == 4

    with service_with(repository, Settings(workers=1, max_waiting_images=4)) as service:
        asyncio.run(stumble(service))
