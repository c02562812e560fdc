"""torch against ONNX Runtime, and one graph against many: the same answers, or no export.

What is compared is the written repository, loaded by the very engine that will serve it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.errors import ExportError
from export.ties import near_threshold
from serving.engine.graphs import Engine
from serving.engine.provider import Provider
from serving.engine.sessions import open_session
from serving.model.manifest import SELF_ROUTING_MODEL_NAME
from serving.model.routing import Float, Routed, RoutingRule
from training.evaluation import route_cached
from training.model import RideModel
from training.outputs import Outputs, collect_outputs, router_scores

MAX_LOGIT_DIFFERENCE = 1e-4
_ANSWERS = ["probabilities", "experts_used", "router_scores"]
_RANDOM_IMAGES = 256
_BATCH_SIZES = (1, 2, 7, 64)
_TORCH_BATCH = 500
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Parity:
    """How close the two were, on how many images."""

    images: int
    max_logit_difference: float
    near_threshold: int


def random_images(engine: Engine, seed: int = 0) -> NDArray[np.uint8]:
    """Noise at every scale from single pixels to one colour, uint8 [N, H, W, 3]."""
    spec, generator = engine.manifest.image, np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (_RANDOM_IMAGES, 8, 8, 3), dtype=np.uint8)
    rows = np.arange(spec.height) * 8 // spec.height
    columns = np.arange(spec.width) * 8 // spec.width
    blocks = coarse[:, rows][:, :, columns]
    noise = generator.integers(0, 256, blocks.shape, dtype=np.uint8)
    share = generator.random((_RANDOM_IMAGES, 1, 1, 1))
    return np.asarray(blocks * share + noise * (1 - share), dtype=np.uint8)


def check_parity(model: RideModel, engine: Engine, images: NDArray[np.uint8]) -> Parity:
    """Compare on images, uint8 [N, H, W, 3].

    Raises:
        ExportError: if logits differ by more than 1e-4, or an image takes other experts although
            none of its router scores is within 1e-3 of a threshold.
    """
    expected, routed = run_torch(model, images, engine.rule())
    difference = float(np.abs(expected.logits - _run_graphs(engine, images)).max())
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise ExportError(
            f"the exported graphs' logits differ from torch's by {difference:.2g}, "
            f"more than {MAX_LOGIT_DIFFERENCE:.0e}"
        )
    near = near_threshold(routed.router_scores, engine.manifest.thresholds).any(axis=1)
    other = np.flatnonzero((_classify(engine, images) != routed.experts_used) & ~near)
    if len(other):
        raise ExportError(
            f"{len(other)} of {len(images)} images take other experts than with torch, "
            f"the first of them image {other[0]}"
        )
    return Parity(len(images), difference, int(near.sum()))


def check_self_routing(graph: Path, engine: Engine, images: NDArray[np.uint8]) -> None:
    """Compare the graph that routes by itself with the engine, on images, uint8 [N, H, W, 3].

    Raises:
        ExportError: if probabilities or scores differ by more than 1e-4, or an image takes other
            experts although none of its router scores is within 1e-3 of a threshold.
    """
    session = open_session(graph.read_bytes(), Provider.CPU)
    found = _joined([Routed(*session.run(_ANSWERS, {"image": each})) for each in _batches(images)])
    expected = _joined([engine.classify(each, engine.rule()) for each in _batches(images)])
    near = near_threshold(expected.router_scores, engine.manifest.thresholds).any(axis=1)
    other = (found.experts_used != expected.experts_used) & ~near
    if other.any():
        raise ExportError(
            f"{other.sum()} of {len(images)} images take other experts in "
            f"{SELF_ROUTING_MODEL_NAME} than by the stages, the first of them image "
            f"{np.flatnonzero(other)[0]}"
        )
    same = found.experts_used == expected.experts_used
    for name in ("probabilities", "router_scores"):
        mine, theirs = getattr(found, name)[same], getattr(expected, name)[same]
        if not np.allclose(mine, theirs, rtol=0, atol=MAX_LOGIT_DIFFERENCE, equal_nan=True):
            raise ExportError(
                f"{name} of {SELF_ROUTING_MODEL_NAME} differ from those of the stages by more than "
                f"{MAX_LOGIT_DIFFERENCE:.0e}"
            )


def _joined(parts: list[Routed]) -> Routed:
    return Routed(*(np.concatenate([getattr(part, name) for part in parts]) for name in _ANSWERS))


def run_torch(
    model: RideModel, images: NDArray[np.uint8], rule: RoutingRule
) -> tuple[Outputs, Routed]:
    """What experts say of images, uint8 [N, H, W, 3], and the answers that a rule makes of it.

    Raises:
        DataError: if there are no images.
    """
    outputs = collect_outputs(model, _torch_batches(images), _CPU)
    scores = router_scores(model.routers, outputs, _CPU, rule.corrections)
    return outputs, route_cached(outputs.logits, scores, rule)


def _torch_batches(images: NDArray[np.uint8]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as `collect_outputs` takes them; parity needs no labels, so all are 0."""
    for batch in torch.split(torch.from_numpy(images), _TORCH_BATCH):
        yield batch, torch.zeros(len(batch), dtype=torch.int64)


def _run_graphs(engine: Engine, images: NDArray[np.uint8]) -> Float:
    """Every expert's logits on every image, [K, N, C], in batches of many sizes."""
    logits = [
        np.stack([step.run.output.logits for step in engine.every_stage(batch)])
        for batch in _batches(images)
    ]
    return np.concatenate(logits, axis=1)


def _classify(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.int32]:
    rule = engine.rule()
    return np.concatenate([engine.classify(batch, rule).experts_used for batch in _batches(images)])


def _batches(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    ends = np.cumsum(_BATCH_SIZES)
    head = [batch for batch in np.split(images[: ends[-1]], ends[:-1]) if len(batch)]
    size = _BATCH_SIZES[-1]
    return head + [images[i : i + size] for i in range(ends[-1], len(images), size)]
