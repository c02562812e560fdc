"""How good a model is, and what it costs: overall and per shot group, routed and with all experts.

Routing is `serving.routing` itself, driven from every expert's cached outputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from rich.progress import track

from serving.manifest import MultiplyAdds
from serving.routing import (
    ExpertCall,
    ExpertOutput,
    Float,
    Routed,
    RouterCall,
    RoutingRule,
    drive,
    route,
)
from training.augmentation import to_unit_range
from training.checkpoint import Checkpoint, replacing
from training.costs import multiply_adds
from training.data import ImageSet
from training.model import RideModel, prefix_means

FILE_NAME = "evaluation.json"
MANY_ABOVE = 100
FEW_BELOW = 20
_BATCH_SIZE = 500


@dataclass(frozen=True)
class Outputs:
    """Every expert's and router's outputs on N images.

    Shapes: logits [K, N, C], scores [K-1, N] (router i on the mean of the first i experts), fp32.
    """

    logits: Float
    scores: Float


@dataclass(frozen=True)
class Accuracy:
    """Top-1, as a share. A shot group without classes is None, not 0.

    Groups by training images of the class: many > 100, medium 20 to 100, few < 20.
    """

    overall: float
    many: float | None
    medium: float | None
    few: float | None


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


def collect_outputs(
    model: RideModel, images: torch.Tensor, device: torch.device, *, progress: bool = False
) -> Outputs:
    """Run every expert and router on images, uint8 [N, H, W, 3], in fp32."""
    model = model.to(device).eval()
    batches = torch.split(images, _BATCH_SIZE)
    logits, scores = [], []
    with torch.inference_mode():
        for batch in track(batches, "evaluating", disable=not progress, transient=True):
            outputs = model(to_unit_range(batch.to(device)))
            prefixes = prefix_means(outputs.logits)
            asked = [
                router(outputs.embeddings[i], prefixes[i]) for i, router in enumerate(model.routers)
            ]
            logits.append(outputs.logits.cpu().numpy())
            scores.append(torch.stack(asked).cpu().numpy() if asked else np.empty((0, len(batch))))
    return Outputs(
        np.concatenate(logits, axis=1), np.concatenate(scores, axis=1).astype(np.float32)
    )


def route_cached(outputs: Outputs, rule: RoutingRule) -> Routed:
    """What the routing would answer, from outputs that were collected before."""
    _, count, classes = outputs.logits.shape

    def run_expert(call: ExpertCall) -> ExpertOutput:
        logits = outputs.logits[call.expert - 1, call.rows]
        return ExpertOutput(logits, np.empty((len(call.rows), 0), dtype=np.float32))

    def run_router(call: RouterCall) -> Float:
        scores: Float = outputs.scores[call.router - 1, call.rows]
        return scores

    return drive(route(count, classes, rule), run_expert, run_router)


def evaluate(
    checkpoint: Checkpoint, data: ImageSet, device: torch.device, *, progress: bool = False
) -> tuple[Evaluation, Routed]:
    """Measure a finished run on a split; also the routed answers, image by image."""
    model = checkpoint.build_model()
    costs = multiply_adds(model)
    outputs = collect_outputs(model, data.images, device, progress=progress)
    routers, experts = len(outputs.scores), len(outputs.logits)
    thresholds = (checkpoint.config.router.threshold,) * routers
    labels = data.labels.numpy()
    routed = route_cached(outputs, RoutingRule(thresholds, experts))
    everything = _all_experts(outputs)
    evaluation = Evaluation(
        dataset=str(checkpoint.config.data.dataset),
        split="test",
        images=len(labels),
        thresholds=thresholds,
        routed=_result(routed, labels, checkpoint.class_counts, costs),
        all_experts=_result(everything, labels, checkpoint.class_counts, costs),
    )
    return evaluation, routed


def accuracy_by_shot(
    predicted: NDArray[np.intp], labels: NDArray[np.int64], class_counts: Sequence[int]
) -> Accuracy:
    """Top-1 of predictions [N] against labels [N], overall and per shot group of the label."""
    right = predicted == labels
    counts = np.asarray(class_counts)[labels]
    return Accuracy(
        overall=float(right.mean()),
        many=_mean(right[counts > MANY_ABOVE]),
        medium=_mean(right[(counts >= FEW_BELOW) & (counts <= MANY_ABOVE)]),
        few=_mean(right[counts < FEW_BELOW]),
    )


def save_evaluation(evaluation: Evaluation, checkpoint_sha256: str, run: Path) -> None:
    """Write `evaluation.json` into the run's folder, from where the export takes it.

    The checkpoint's digest goes with it, so that it is not taken for another checkpoint's.
    """
    document = {"checkpoint_sha256": checkpoint_sha256, **evaluation.to_dict()}
    with replacing(run / FILE_NAME) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def save_predictions(routed: Routed, labels: torch.Tensor, path: Path) -> None:
    """Write a Parquet table with a row an image.

    Columns: label, predicted, probability, experts_used, and router_scores (a list, null where a
    router was not asked).
    """
    scores = [[None if np.isnan(s) else float(s) for s in row] for row in routed.router_scores]
    table = pa.table(
        {
            "label": labels.numpy(),
            "predicted": routed.probabilities.argmax(axis=1),
            "probability": routed.probabilities.max(axis=1),
            "experts_used": routed.experts_used,
            "router_scores": pa.array(scores, pa.list_(pa.float32())),
        }
    )
    with replacing(path) as file:
        pq.write_table(table, file)


def _all_experts(outputs: Outputs) -> Routed:
    """Every image through every expert: no router is asked, so none is paid for."""
    experts, count, _ = outputs.logits.shape
    rule = RoutingRule((0.0,) * (experts - 1), experts)
    always = Outputs(outputs.logits, np.ones((experts - 1, count), dtype=np.float32))
    routed = route_cached(always, rule)
    return Routed(
        routed.probabilities, routed.experts_used, np.full_like(routed.router_scores, np.nan)
    )


def _result(
    routed: Routed, labels: NDArray[np.int64], class_counts: Sequence[int], costs: MultiplyAdds
) -> Result:
    asked = np.isfinite(routed.router_scores).sum(axis=1)
    spent = [
        costs.spent(int(experts), int(routers))
        for experts, routers in zip(routed.experts_used, asked, strict=True)
    ]
    experts = np.bincount(routed.experts_used, minlength=len(costs.experts) + 1)[1:]
    return Result(
        accuracy=accuracy_by_shot(routed.probabilities.argmax(axis=1), labels, class_counts),
        mean_experts=float(routed.experts_used.mean()),
        mean_multiply_adds=float(np.mean(spent)),
        stopped_after=tuple(float(share) for share in experts / len(labels)),
    )


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
