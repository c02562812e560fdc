"""What `ride export` does, apart from reading its flags."""

from __future__ import annotations

import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from export.errors import ExportError
from export.graphs import split_model
from export.parity import check_parity, check_self_routing, random_images
from export.placement import DEFAULT_PLACEMENT, Placement
from export.quantization_request import QuantizationRequest
from export.quantized_version import quantize_version, read_quantization_images, summary
from export.repository import publish, staged_version
from serving.engine.graphs import Engine, load_engine
from serving.model.manifest import ImageSpec, Manifest
from serving.tracing.terminal import say
from training.checkpoint import Checkpoint, checkpoint_digest, load_finished
from training.config import DataConfig
from training.costs import multiply_adds
from training.data import LabelledImages, Split, read_split
from training.data.loading import plain_batches
from training.evaluation import FILE_NAME as EVALUATION_FILE
from training.model import RideModel

_PARITY_IMAGES = 1_000


def export_session(
    run: Path,
    target: Path,
    *,
    data: Path | None,
    quantize: QuantizationRequest | None = None,
    placement: Placement = DEFAULT_PLACEMENT,
    console: Console,
) -> None:
    """Export a finished run as the next version of a model repository.

    Raises:
        TrainingError: if the run, the target, the data, parity or the accuracy of quantised graphs
            is at fault; nothing was written then.
        ModelRepositoryError: if what was written can't be served.
    """
    checkpoint = load_finished(run)
    model = checkpoint.build_model()
    manifest = build_manifest(checkpoint, model, _evaluation(run, console))
    test = None
    if data is not None:
        test = read_split(data, checkpoint.config.data, Split.TEST, checkpoint.class_names)
    images = None
    if quantize is not None:
        if data is None or test is None:
            raise ExportError(
                "a quantised export states the accuracy that it was measured to have, "
                "so --quantize needs the data set: name its folder by --data"
            )
        images = read_quantization_images(data, checkpoint, test, quantize.precision)
    say(console, "Writing graphs ..")
    graphs = split_model(model, manifest.image.height, manifest.corrections)
    with staged_version(graphs, manifest, target, placement) as staged:
        engine = load_engine(staged.directory)
        pictures = _parity_images(engine, checkpoint, test)
        parity = check_parity(model, engine, pictures)
        if quantize is not None and images is not None:
            quantization = quantize_version(staged, engine, images, quantize, console)
            say(console, summary(quantize.precision, quantization))
        graph = staged.write_self_routing()
        if graph is None:
            say(console, "No ride_graph: the stages together are more than an ONNX file can hold.")
        else:
            check_self_routing(graph, load_engine(staged.directory), pictures)
        publish(staged, target)
    say(
        console,
        f"Parity with torch on {parity.images} {'random' if data is None else 'test'} images: "
        f"logits within {parity.max_logit_difference:.1e}, the same experts "
        f"({parity.near_threshold} images within 1e-3 of a threshold not counted).\n"
        f"Wrote version {staged.version} of {target}. Next: ride serve {target}",
    )


def build_manifest(
    checkpoint: Checkpoint, model: RideModel, evaluation: dict[str, Any]
) -> Manifest:
    """The manifest of a checkpoint, still without its graphs' checksums.

    Raises:
        ExportError: if the run's image size is one that can't be served.
    """
    config = checkpoint.config
    image = _image_spec(config.data)
    return Manifest(
        class_names=checkpoint.class_names,
        class_counts=checkpoint.class_counts,
        image=image,
        thresholds=checkpoint.thresholds,
        corrections=_corrections(checkpoint),
        multiply_adds=multiply_adds(model, image.height),
        graphs={},
        gears=checkpoint.gears,
        evaluation=evaluation,
        provenance={
            "dataset": str(config.data.dataset),
            "imbalance_factor": config.data.imbalance_factor,
            "seed": config.seed,
            "training": checkpoint.provenance,
            "config": config.to_dict(),
            "exported": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "export_versions": {name: version(name) for name in ("torch", "onnx", "onnxscript")},
        },
        precision="fp32",
        quantization=None,
    )


def _corrections(checkpoint: Checkpoint) -> tuple[tuple[float, ...], ...]:
    """Empty where no prefix needs any, which spares serving the sum."""
    corrections = checkpoint.prefix_corrections()
    return tuple(map(tuple, corrections.tolist())) if corrections.any() else ()


def _image_spec(data: DataConfig) -> ImageSpec:
    """The evaluation transform of training: what `training.data` does to test images."""
    try:
        return ImageSpec(data.image_size, data.image_size, data.resize_shorter_side, "bilinear")
    except ValueError as error:
        raise ExportError(f"the run's image size can't be served: {error}") from None


def _evaluation(run: Path, console: Console) -> dict[str, Any]:
    """What `ride evaluate` measured of this very checkpoint, else nothing and a word about it."""
    path = run / EVALUATION_FILE
    if not path.is_file():
        say(console, f"Not evaluated yet: the manifest will not state accuracy (no {path}).")
        return {}
    try:
        evaluation: dict[str, Any] = json.loads(path.read_bytes())
        belongs = evaluation["checkpoint_sha256"] == checkpoint_digest(run)
    except (ValueError, KeyError, TypeError):
        raise ExportError(f"{path} is damaged; run ride evaluate again") from None
    if not belongs:
        raise ExportError(f"{path} is of an earlier checkpoint; run ride evaluate again")
    return evaluation


def _parity_images(
    engine: Engine, checkpoint: Checkpoint, images: LabelledImages | None
) -> NDArray[np.uint8]:
    if images is None:
        return random_images(engine)
    config = checkpoint.config.data
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    chosen = images.subset(rows[:_PARITY_IMAGES])
    batches = plain_batches(chosen, config, torch.device("cpu"), _PARITY_IMAGES)
    pixels: NDArray[np.uint8] = np.concatenate([batch.numpy() for batch, _ in batches])
    return pixels
