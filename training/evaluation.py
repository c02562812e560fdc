"""How good a model is, and what it costs: overall and per shot group, routed and with all experts.

Routing is `serving.model.routing` itself, driven from every expert's cached outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.files import replacing
from serving.model.manifest import MultiplyAdds
from serving.model.multiply_adds import spent_on_answers
from serving.model.routing import Float, Routed, RoutingRule, StageCall, StageOutput, route
from serving.model.shot_groups import Accuracy, accuracy_by_shot
from training.checkpoint import Checkpoint
from training.costs import multiply_adds
from training.errors import DataError
from training.outputs import expert_outputs, router_scores

FILE_NAME = "evaluation.json"


@dataclass(frozen=True)
class Answers:
    """What the model answers on N images.

    Shapes: predicted class [N], its probability [N], experts used [N], router scores [N, K-1] (NaN
    where a router was not asked).
    """

    predicted: NDArray[np.intp]
    probability: Float
    experts_used: NDArray[np.int32]
    router_scores: Float

    @staticmethod
    def of(routed: Routed) -> Answers:
        """The most probable class of each image."""
        return Answers(
            routed.probabilities.argmax(axis=1),
            routed.probabilities.max(axis=1),
            routed.experts_used,
            routed.router_scores,
        )

    @staticmethod
    def concatenate(parts: Sequence[Answers]) -> Answers:
        """Those of several batches, in order."""
        return Answers(
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.probability for part in parts]),
            np.concatenate([part.experts_used for part in parts]),
            np.concatenate([part.router_scores for part in parts]),
        )


@dataclass(frozen=True)
class Result:
    """One way of using the model: accuracy, mean cost of an image, where images stop.

    `stopped_after[i]` is the share of images that took i + 1 experts.
    """

    accuracy: Accuracy
    mean_experts: float
    mean_multiply_adds: float
    stopped_after: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """What `ride evaluate` measures."""

    dataset: str
    split: str
    images: int
    thresholds: tuple[float, ...]
    routed: Result
    all_experts: Result

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data


def route_cached(logits: Float, scores: Float, rule: RoutingRule) -> Routed:
    """What the routing would answer, from what experts and routers said before.

    Args: logits [K, N, C] of every expert; scores [K-1, N] of every router.
    """
    experts, count, classes = logits.shape

    def run_stage(call: StageCall) -> StageOutput:
        i = call.stage - 1
        score = scores[i, call.rows] if call.stage < experts else None
        return StageOutput(logits[i, call.rows], score)

    return route(count, classes, rule, run_stage)


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
) -> tuple[Evaluation, Answers, NDArray[np.int64]]:
    """Measure a finished run on batches of test images, uint8 [N, H, W, 3], and labels, int64 [N].

    Returns the measurement, the routed answers image by image, and the labels in their order.

    Raises:
        DataError: if there is no batch.
    """
    model = checkpoint.build_model()
    costs = multiply_adds(model, checkpoint.config.data.image_size)
    corrections: Float = checkpoint.prefix_corrections().numpy()
    rule = RoutingRule(checkpoint.thresholds, len(model.experts), corrections)
    routed, full, labels = [], [], []
    for outputs in expert_outputs(model, batches, device):
        scores = router_scores(model.routers, outputs, device, corrections)
        routed.append(Answers.of(route_cached(outputs.logits, scores, rule)))
        full.append(Answers.of(all_experts(outputs.logits, corrections)))
        labels.append(outputs.labels)
    if not labels:
        raise DataError("there are no images to evaluate on")
    answers, everything = Answers.concatenate(routed), Answers.concatenate(full)
    truth = np.concatenate(labels)
    evaluation = Evaluation(
        dataset=str(checkpoint.config.data.dataset),
        split="test",
        images=len(truth),
        thresholds=rule.thresholds,
        routed=result(answers, truth, checkpoint.class_counts, costs),
        all_experts=result(everything, truth, checkpoint.class_counts, costs),
    )
    return evaluation, answers, truth


def save_evaluation(evaluation: Evaluation, checkpoint_sha256: str, run: Path) -> None:
    """Write `evaluation.json` into the run's folder, from where the export takes it.

    The checkpoint's digest goes with it, so that it is not taken for another checkpoint's.
    """
    document = {"checkpoint_sha256": checkpoint_sha256, **evaluation.to_dict()}
    with replacing(run / FILE_NAME) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def save_predictions(answers: Answers, labels: NDArray[np.int64], path: Path) -> None:
    """Write a Parquet table with a row an image.

    Columns: label, predicted, probability, experts_used, and router_scores (a list, null where a
    router was not asked).
    """
    scores = [[None if np.isnan(s) else float(s) for s in row] for row in answers.router_scores]
    table = pa.table(
        {
            "label": labels,
            "predicted": answers.predicted,
            "probability": answers.probability,
            "experts_used": answers.experts_used,
            "router_scores": pa.array(scores, pa.list_(pa.float32())),
        }
    )
    with replacing(path) as file:
        pq.write_table(table, file)


def result(
    answers: Answers, labels: NDArray[np.int64], class_counts: Sequence[int], costs: MultiplyAdds
) -> Result:
    """Accuracy and cost of answers to images with these labels [N]."""
    spent = spent_on_answers(answers.experts_used, answers.router_scores, costs)
    stopped = np.bincount(answers.experts_used, minlength=len(costs.experts) + 1)[1:]
    return Result(
        accuracy=accuracy_by_shot(answers.predicted, labels, class_counts),
        mean_experts=float(answers.experts_used.mean()),
        mean_multiply_adds=spent / len(labels),
        stopped_after=tuple(float(share) for share in stopped / len(labels)),
    )


def all_experts(logits: Float, corrections: Float) -> Routed:
    """Every image through every expert: no router is asked, so none is paid for."""
    experts, count, _ = logits.shape
    any_score = np.zeros((experts - 1, count), dtype=np.float32)
    routed = route_cached(logits, any_score, RoutingRule.every_expert(experts, corrections))
    return replace(routed, router_scores=np.full_like(routed.router_scores, np.nan))
