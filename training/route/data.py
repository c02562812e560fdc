"""What routers are fitted, chosen and measured on: experts' outputs on three sets of images.

The experts run once on each set; their outputs are kept in the run's folder, and all the rest works
on what was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from serving.model.routing import Float
from training.calibration import class_balanced_weights
from training.checkpoint import Checkpoint
from training.choices import Precision
from training.device import choose_device
from training.model import RideModel
from training.outputs import (
    Outputs,
    collect_outputs,
    experts_digest,
    load_outputs,
    prefix_predictions,
    save_outputs,
)
from training.route.adjustment import best_prior_adjustment
from training.route.comparison import PrefixPredictions
from training.route.images import ImageBatches, RouteImages

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class RoutingData:
    """What routers are fitted, chosen and measured on; everything on the CPU.

    `corrections` [K, C] are those of `prior_adjustment`.
    """

    model: RideModel
    image_size: int
    prior_adjustment: float
    corrections: Float
    views: Outputs | None
    calibration: Outputs
    test: Outputs

    @cached_property
    def calibration_predictions(self) -> PrefixPredictions:
        """The test split is balanced, so calibration images count as if they were."""
        labels = self.calibration.labels
        predictions = prefix_predictions(self.calibration, self.corrections)
        return PrefixPredictions(predictions, labels, class_balanced_weights(labels))

    @cached_property
    def test_predictions(self) -> PrefixPredictions:
        """Every image counts the same."""
        return PrefixPredictions(prefix_predictions(self.test, self.corrections), self.test.labels)


class _RouteOutputs:
    """Experts' outputs, from the run's folder or else from the experts."""

    def __init__(self, run: Path, model: RideModel, device: torch.device, console: Console) -> None:
        self._run = run
        self._model = model
        self._device = device
        self._console = console
        self._digest = experts_digest(model)

    def of(self, images: ImageBatches) -> Outputs:
        """Those of a set of images."""
        path = self._run / f"outputs-{images.name}.npz"
        key = f"{self._digest} {images.fingerprint}"
        kept = load_outputs(key, path)
        if kept is not None:
            return kept
        batches = track(
            images.batches(),
            f"experts on {images.images:,} {images.name} images",
            console=self._console,
            transient=True,
        )
        collected = collect_outputs(self._model, batches, self._device)
        save_outputs(collected, key, path)
        return collected


def collect_routing_data(
    checkpoint: Checkpoint,
    run: Path,
    images: RouteImages,
    device: str,
    console: Console,
    *,
    with_views: bool,
    prior_adjustment: float | None,
) -> RoutingData:
    """The experts' outputs, augmented views of training images only where they are wanted.

    Without a `prior_adjustment`, the best on the calibration images is taken.
    """
    compute = choose_device(device, Precision.FP32)
    model = checkpoint.build_model()
    outputs = _RouteOutputs(run, model, compute.device, console)
    calibration = outputs.of(images.calibration)
    if prior_adjustment is None:
        prior_adjustment = best_prior_adjustment(checkpoint, calibration)
    return RoutingData(
        views=outputs.of(images.views) if with_views else None,
        calibration=calibration,
        test=outputs.of(images.test),
        prior_adjustment=prior_adjustment,
        corrections=checkpoint.prefix_corrections(prior_adjustment).numpy(),
        model=model.to(_CPU),
        image_size=checkpoint.config.data.image_size,
    )
