"""Evaluation: accuracy, cost and shot groups by hand; thresholds and corrections as chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from serving.model.manifest import MultiplyAdds
from serving.model.routing import Routed, RoutingRule
from serving.model.shot_groups import Accuracy, accuracy_by_shot
from training.checkpoint import Checkpoint, Position, Stage
from training.choices import RouterKind
from training.config import ModelConfig, TrainingConfig
from training.errors import DataError
from training.evaluation import (
    Answers,
    evaluate_checkpoint,
    result,
    route_cached,
    save_evaluation,
    save_predictions,
)
from training.model import RideModel
from training.outputs import collect_outputs

pytestmark = pytest.mark.usefixtures("short_networks")

CPU = torch.device("cpu")
COUNTS = (150, 100, 20, 19, 1)


def checkpoint_of(experts: int, kind: RouterKind = RouterKind.MARGIN) -> Checkpoint:
    model = ModelConfig(num_classes=5, num_experts=experts, router_kind=kind, router_top_logits=5)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        weights = RideModel(model).state_dict()
    config = TrainingConfig(preset="cifar10-lt", model=model)
    names = ("a", "b", "c", "d", "e")
    return Checkpoint(config, names, COUNTS, "", Position(Stage.DONE), weights, {}, {})


def batches(count: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 8, 8, 3), generator=generator, dtype=torch.uint8)
    yield from zip(
        torch.split(images, size), torch.split(torch.arange(count) % 5, size), strict=True
    )


def test_accuracy_is_told_for_each_shot_group_of_the_label() -> None:
    labels = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    predicted = np.array([0, 1, 1, 1, 0, 3, 4, 0])
    assert accuracy_by_shot(predicted, labels, COUNTS) == Accuracy(5 / 8, 1 / 2, 2 / 3, 2 / 3)


def test_a_shot_group_without_classes_has_no_accuracy() -> None:
    accuracy = accuracy_by_shot(np.array([0, 1]), np.array([0, 1]), (500, 50))
    assert accuracy == Accuracy(1.0, 1.0, 1.0, None)


def test_cost_counts_experts_and_the_routers_that_were_asked() -> None:
    nan = np.nan
    answers = Answers(
        np.array([0, 0, 1, 4]),
        np.ones(4, dtype=np.float32),
        np.array([1, 2, 3, 3], dtype=np.int32),
        np.array([[0.1, nan], [0.9, 0.2], [0.9, 0.8], [nan, nan]], dtype=np.float32),
    )
    costs = MultiplyAdds(1_000, (100, 200, 300), (7, 9))
    measured = result(answers, np.array([0, 1, 1, 4]), COUNTS, costs)
    spent = (1_107, 1_316, 1_616, 1_600)
    assert measured.mean_multiply_adds == sum(spent) / 4
    assert measured.mean_experts == 9 / 4
    assert measured.stopped_after == (0.25, 0.25, 0.5)
    assert measured.accuracy.overall == 0.75


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cached_outputs_are_routed_as_the_rule_says(dtype: type) -> None:
    logits: Any = np.array([[[1, 0], [0, 1]], [[0, 5], [9, 0]]], dtype=dtype)  # [K=2, N=2, C=2]
    scores: Any = np.array([[0.7, 0.3]], dtype=dtype)
    routed = route_cached(logits, scores, RoutingRule((0.5,), 2))
    assert routed.experts_used.tolist() == [2, 1]
    assert routed.probabilities.argmax(axis=1).tolist() == [1, 1]
    corrected = RoutingRule((0.5,), 2, np.array([[5, 0], [9, 0]], dtype=np.float32))
    assert route_cached(logits, scores, corrected).probabilities.argmax(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize("kind", RouterKind)
@pytest.mark.parametrize("experts", [1, 2, 3])
def test_a_model_of_any_kind_and_size_is_evaluated(kind: RouterKind, experts: int) -> None:
    checkpoint = checkpoint_of(experts, kind)
    evaluation, answers, labels = evaluate_checkpoint(checkpoint, batches(10, 4), CPU)
    assert evaluation.images == len(answers.predicted) == 10
    assert labels.tolist() == [n % 5 for n in range(10)]
    assert evaluation.thresholds == (0.5,) * (experts - 1)
    assert evaluation.all_experts.mean_experts == experts
    assert evaluation.all_experts.stopped_after == (0.0,) * (experts - 1) + (1.0,)
    assert 1 <= evaluation.routed.mean_experts <= experts
    outputs = collect_outputs(checkpoint.build_model(), batches(10, 10), CPU)
    predicted = outputs.logits.mean(axis=0).argmax(axis=1)
    assert evaluation.all_experts.accuracy.overall == (predicted == labels).mean()


def test_the_thresholds_that_were_chosen_are_the_ones_that_hold() -> None:
    checkpoint = checkpoint_of(3)
    for thresholds, experts in (((1.0, 0.0), 1), ((0.0, 1.0), 2), ((0.0, 0.0), 3)):
        chosen = replace(checkpoint, routing={"thresholds": list(thresholds)})
        evaluation, _, _ = evaluate_checkpoint(chosen, batches(6, 6), CPU)
        assert evaluation.thresholds == thresholds
        assert evaluation.routed.mean_experts == experts


def test_the_size_of_batches_changes_nothing() -> None:
    checkpoint = checkpoint_of(2)
    one, answers, _ = evaluate_checkpoint(checkpoint, batches(9, 9), CPU)
    other, same, _ = evaluate_checkpoint(checkpoint, batches(9, 2), CPU)
    assert one.routed.accuracy == other.routed.accuracy
    np.testing.assert_array_equal(answers.experts_used, same.experts_used)
    np.testing.assert_allclose(answers.probability, same.probability, atol=1e-4)


def test_corrections_count_in_every_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoint_of(2)
    corrections = torch.zeros(2, 5)
    corrections[0, 3], corrections[1, 2] = 1e3, 1e3
    monkeypatch.setattr(Checkpoint, "prefix_corrections", lambda _: corrections)
    for threshold, predicted in ((1.0, 3), (0.0, 2)):
        chosen = replace(checkpoint, routing={"thresholds": [threshold]})
        _, answers, _ = evaluate_checkpoint(chosen, batches(4, 4), CPU)
        assert answers.predicted.tolist() == [predicted] * 4


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate_checkpoint(checkpoint_of(2), iter(()), CPU)


def test_the_fields_of_the_file_stay_what_they_were(tmp_path: Path) -> None:
    evaluation, _, _ = evaluate_checkpoint(checkpoint_of(2), batches(4, 4), CPU)
    save_evaluation(evaluation, "ab" * 32, tmp_path)
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(document) == [
        *("checkpoint_sha256", "dataset", "split", "images", "thresholds"),
        *("routed", "all_experts"),
    ]
    assert list(document["routed"]) == [
        *("accuracy", "mean_experts", "mean_multiply_adds", "stopped_after"),
    ]


def test_predictions_have_a_row_an_image(tmp_path: Path) -> None:
    routed = Routed(
        np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32),
        np.array([1, 2], dtype=np.int32),
        np.array([[0.25, np.nan], [0.75, 0.5]], dtype=np.float32),
    )
    save_predictions(Answers.of(routed), np.array([0, 0]), tmp_path / "answers.parquet")
    rows = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert rows[0] == {
        "label": 0,
        "predicted": 0,
        "probability": pytest.approx(0.9),
        "experts_used": 1,
        "router_scores": [0.25, None],
    }
    assert (rows[1]["predicted"], rows[1]["router_scores"]) == (1, [0.75, 0.5])
