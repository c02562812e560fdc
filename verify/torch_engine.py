"""The model in torch, as a run's checkpoint has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.parity import run_torch
from serving.model.manifest import Manifest
from serving.model.routing import Routed, RoutingRule
from training.checkpoint import Checkpoint, load_finished
from verify.engines import ClassifyPixels, Pixels
from verify.errors import VerificationError


def load_torch(run: Path, manifest: Manifest) -> ClassifyPixels:
    """What classifies with a finished run's weights and thresholds, on the CPU.

    Raises:
        CheckpointError: if the run is not finished, damaged or not there.
        VerificationError: if the run is not of the manifest's model.
    """
    checkpoint = load_finished(run)
    _require_same_model(run, checkpoint, manifest)
    model = checkpoint.build_model()
    corrections = np.asarray(checkpoint.prefix_corrections().numpy(), dtype=np.float32)
    rule = RoutingRule(checkpoint.thresholds, manifest.num_experts, corrections)

    def classify(images: Pixels) -> Routed:
        return run_torch(model, images, rule)[1]

    return classify


def _require_same_model(run: Path, checkpoint: Checkpoint, manifest: Manifest) -> None:
    config = checkpoint.config
    comparisons = {
        "classes differ": (checkpoint.class_names, manifest.class_names),
        "number of experts differs": (config.model.num_experts, manifest.num_experts),
        "image size differs": (config.data.image_size, manifest.image.height),
    }
    for what, (of_run, of_repository) in comparisons.items():
        if of_run != of_repository:
            raise VerificationError(
                f"the model repository was not exported from {run}: its {what}; name the "
                "run that it was exported from"
            )
