"""The report's statistics, against the same worked out image by image."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.model.shot_groups import GROUPS, accuracy_by_shot, shot_groups
from training.report.statistics import (
    CALIBRATION_BINS,
    classes_by_size,
    images_by_group,
    main_prediction,
    means_by_class,
    reliability,
    shares_of_experts,
    spread,
)

quick = settings(max_examples=50)

# Multiples of 1/1024 are exact in fp32, so that no rounding decides which bin one falls into.
confident = st.tuples(st.integers(0, 1024).map(lambda k: k / 1024), st.booleans())
several_confident = st.lists(confident, min_size=1, max_size=60)
counts_of_classes = st.lists(st.integers(0, 300), min_size=1, max_size=30)


def arrays(images: list[tuple[float, bool]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    confidence, right = zip(*images, strict=True)
    return np.array(confidence, dtype=np.float32), np.array(right)


@st.composite
def predictions(draw: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of 1 to 5 runs on 1 to 20 images, [R, N], and labels [N]."""
    runs, images = draw(st.integers(1, 5)), draw(st.integers(1, 20))
    row = st.lists(st.integers(0, 3), min_size=images, max_size=images)
    predicted = draw(st.lists(row, min_size=runs, max_size=runs))
    return np.array(predicted), np.array(draw(row))


# Shot groups


@pytest.mark.parametrize(
    ("count", "group"),
    [(101, "many"), (100, "medium"), (20, "medium"), (19, "few"), (0, "few")],
)
def test_a_class_belongs_to_the_group_of_its_size(count: int, group: str) -> None:
    assert GROUPS[shot_groups([count])[0]] == group


@quick
@given(counts_of_classes, st.data())
def test_groups_are_those_of_the_evaluation(counts: list[int], data: st.DataObject) -> None:
    classes = st.integers(0, len(counts) - 1)
    labels = np.array(data.draw(st.lists(classes, min_size=1, max_size=40)))
    predicted = np.array(data.draw(st.lists(classes, min_size=len(labels), max_size=len(labels))))
    expected = accuracy_by_shot(predicted, labels, counts)
    means = {
        name: (predicted == labels)[mask].mean()
        for name, mask in images_by_group(labels, counts).items()
    }
    for name in ("overall", "many", "medium", "few"):
        assert means.get(name) == getattr(expected, name)


# Experts and classes


def test_experts_are_shares_of_the_images() -> None:
    assert shares_of_experts(np.array([1, 1, 3, 1]), 4).tolist() == [0.75, 0, 0.25, 0]


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=50))
def test_shares_of_experts_are_counted_and_sum_to_one(used: list[int]) -> None:
    shares = shares_of_experts(np.array(used), 6)
    assert shares == pytest.approx([used.count(k) / len(used) for k in range(1, 7)])
    assert shares.sum() == pytest.approx(1)


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-8, 8)), max_size=40))
def test_the_mean_of_a_class_is_over_its_own_images(images: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in images], dtype=int)
    values = np.array([value for _, value in images], dtype=float)
    for one, mean in enumerate(means_by_class(values, labels, 5)):
        own = [value for label, value in images if label == one]
        if own:
            assert mean == pytest.approx(sum(own) / len(own))
        else:
            assert math.isnan(mean)


@quick
@given(counts_of_classes, st.integers(1, 40))
def test_bins_hold_every_class_once_from_the_largest_on(counts: list[int], most: int) -> None:
    bins = classes_by_size(counts, most)
    order = [int(one) for each in bins for one in each]
    assert sorted(order) == list(range(len(counts)))
    assert order == sorted(order, key=lambda one: (-counts[one], one))
    assert len(bins) == min(most, len(counts))
    sizes = [len(each) for each in bins]
    assert max(sizes) - min(sizes) <= 1


# Calibration


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_images() -> None:
    confidence = np.array([0.99, 0.97, 0.98, 0.98, 0.35, 0.37], dtype=np.float32)
    right = np.array([True, True, False, True, True, False])
    found = reliability(confidence, right)
    assert found.share[[5, 14]].tolist() == [2 / 6, 4 / 6]
    assert found.share.sum() == pytest.approx(1)
    assert found.accuracy[[5, 14]].tolist() == [0.5, 0.75]
    assert found.confidence[[5, 14]] == pytest.approx([0.36, 0.98])
    assert found.error == pytest.approx((4 * (0.98 - 0.75) + 2 * (0.5 - 0.36)) / 6)
    assert found.mean_confidence == pytest.approx(4.64 / 6)
    assert np.isnan(np.delete(found.accuracy, [5, 14])).all()


@pytest.mark.parametrize(("confidence", "place"), [(0.0, 0), (1 / 1024, 0), (1.0, 14)])
def test_the_ends_of_the_scale_belong_to_the_outermost_bins(confidence: float, place: int) -> None:
    found = reliability(np.array([confidence], dtype=np.float32), np.array([True]))
    assert np.flatnonzero(found.share).tolist() == [place]


@quick
@given(several_confident)
def test_calibration_is_what_its_equation_says(images: list[tuple[float, bool]]) -> None:
    found = reliability(*arrays(images))
    error = 0.0
    for m in range(CALIBRATION_BINS):
        low, high = m / CALIBRATION_BINS, (m + 1) / CALIBRATION_BINS
        inside = [each for each in images if low < each[0] <= high or m == each[0] == 0]
        assert found.share[m] == pytest.approx(len(inside) / len(images))
        if not inside:
            assert math.isnan(found.confidence[m])
            assert math.isnan(found.accuracy[m])
            continue
        confidence, accuracy = np.mean(inside, axis=0)
        assert found.confidence[m] == pytest.approx(confidence)
        assert found.accuracy[m] == pytest.approx(accuracy)
        error += len(inside) / len(images) * abs(accuracy - confidence)
    assert found.error == pytest.approx(error)


@quick
@given(several_confident)
def test_the_error_is_at_least_the_gap_of_the_means(images: list[tuple[float, bool]]) -> None:
    confidence, right = arrays(images)
    found = reliability(confidence, right)
    assert abs(found.mean_confidence - right.mean()) - 1e-9 <= found.error <= 1


def test_answers_as_often_right_as_they_say_have_no_error() -> None:
    found = reliability(np.full(4, 0.75, dtype=np.float32), np.array([True, True, False, True]))
    assert found.error == 0


# Bias and variance


def test_bias_and_variance_of_three_runs_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    predicted = np.array(
        [
            [0, 0, 2, 1],
            [0, 1, 2, 0],
            [0, 0, 1, 2],  # the last image is a tie: its main prediction is 0
        ]
    )
    assert main_prediction(predicted).tolist() == [0, 0, 2, 0]
    found = spread(predicted, labels)
    assert found.accuracy == pytest.approx(6 / 12)
    assert found.bias == pytest.approx(2 / 4)
    assert found.variance == pytest.approx((0 + 1 + 1 + 2) / 12)


@quick
@given(predictions())
def test_the_main_prediction_is_what_most_runs_say(
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    predicted, labels = drawn
    main = []
    for votes in predicted.T.tolist():
        often = Counter(votes)
        main.append(min(one for one in often if often[one] == max(often.values())))
    assert main_prediction(predicted).tolist() == main
    found = spread(predicted, labels)
    pairs = [(main[n], one) for votes in predicted.tolist() for n, one in enumerate(votes)]
    assert found.bias == pytest.approx(
        sum(a != b for a, b in zip(main, labels.tolist(), strict=True)) / len(main)
    )
    assert found.variance == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))


@quick
@given(predictions())
def test_bias_and_variance_bound_the_mistakes(
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Domingos 2000: variance adds to the mistakes where the main prediction is right."""
    found = spread(*drawn)
    mistakes = 1 - found.accuracy
    assert found.bias - found.variance - 1e-9 <= mistakes <= found.bias + found.variance + 1e-9


@quick
@given(predictions(), st.randoms(use_true_random=False))
def test_the_order_of_runs_means_nothing(
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]], chance: Any
) -> None:
    predicted, labels = drawn
    order = list(range(len(predicted)))
    chance.shuffle(order)
    assert asdict(spread(predicted[order], labels)) == pytest.approx(
        asdict(spread(predicted, labels))
    )


def test_equal_runs_have_no_variance() -> None:
    one = np.array([0, 1, 2, 2])
    found = spread(np.stack([one, one, one]), np.array([0, 1, 2, 0]))
    assert (found.accuracy, found.bias, found.variance) == (0.75, 0.25, 0)
