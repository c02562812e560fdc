"""Makes a staged fp32 version one of int8 or fp16, unless that costs too much accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import onnxruntime as ort
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from export.accuracy import Comparison, compare_engines
from export.errors import ExportError
from export.quantization_request import QuantizationRequest, QuantizedPrecision
from export.quantize import FP16_SETTINGS, INT8_SETTINGS, Inputs, to_fp16, to_int8
from export.repository import StagedVersion
from serving.engine.graphs import Engine, load_engine
from serving.model.quantization import Calibration, PairedDrop, Quantization
from serving.model.repository import graph_path
from training.checkpoint import Checkpoint
from training.config import DataConfig
from training.data import LabelledImages, Split, read_split
from training.data.loading import plain_batches

CALIBRATION_IMAGES = 512
"""128, 512 and 1,024 gave the bundled model the same answers within the error of measurement."""

_CALIBRATION_BATCH = 64
_TEST_BATCH = 100
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class QuantizationImages:
    """Images that calibrate (None for fp16, which has nothing to calibrate) and that measure.

    The former neither trained nor test the model.
    """

    calibration: LabelledImages | None
    test: LabelledImages
    config: DataConfig

    @property
    def measured_on(self) -> str:
        """The images that measure, in words."""
        return f"{len(self.test):,} test images of {self.config.dataset}"


def read_quantization_images(
    directory: Path, checkpoint: Checkpoint, test: LabelledImages, precision: QuantizedPrecision
) -> QuantizationImages:
    """Draw the calibration images of a run.

    Raises:
        TrainingError: if the data folder has none, or is of other classes than the run.
    """
    config = checkpoint.config.data
    if len(test.class_names) != len(checkpoint.class_names):
        raise ExportError(
            f"{directory} has {len(test.class_names)} classes, "
            f"and the run was trained on {len(checkpoint.class_names)}"
        )
    if precision is QuantizedPrecision.FP16:
        return QuantizationImages(None, test, config)
    held_out = read_split(directory, config, Split.CALIBRATION, checkpoint.class_names)
    rows = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))
    return QuantizationImages(held_out.subset(rows[:CALIBRATION_IMAGES]), test, config)


def quantize_version(
    staged: StagedVersion,
    engine: Engine,
    images: QuantizationImages,
    request: QuantizationRequest,
    console: Console,
) -> Quantization:
    """Replace the graphs of a staged version, measure, and write both into its manifest.

    Args: the version, and the engine that it was loaded into while it was fp32.

    Raises:
        ExportError: if more accuracy is lost than allowed; the staged version is useless then.
        ModelRepositoryError: if the quantised graphs can't be served.
    """
    names = track(staged.models, f"{request.precision} graphs", console=console, transient=True)
    for stage, name in enumerate(names, start=1):
        path = staged.directory / graph_path(name, staged.version)
        if images.calibration is None:
            to_fp16(path)
        else:
            to_int8(path, _calibration_inputs(stage, engine, images.calibration, images.config))
    staged.write_manifest(engine.manifest)  # says fp32 still, so that it loads and is measured
    comparison = compare_engines(
        engine, load_engine(staged.directory), _test_batches(images, console), images.measured_on
    )
    lost = comparison.routed
    if not 100 * lost.drop <= request.max_drop:
        raise ExportError(
            f"{request.precision} loses {100 * lost.drop:.2f} points of routed accuracy "
            f"(standard error {100 * lost.standard_error:.2f}) on {images.measured_on}, and "
            f"at most {request.max_drop:g} may be lost; nothing was written"
        )
    quantization = _quantization(comparison, images, request)
    staged.write_manifest(
        replace(
            engine.manifest,
            precision=str(request.precision),
            quantization=quantization,
            gears=comparison.gears,
        )
    )
    return quantization


def summary(precision: str, quantization: Quantization) -> str:
    """What was lost, in a sentence."""
    routed, full = quantization.routed, quantization.all_experts
    return (
        f"{precision} against fp32 on {quantization.measured_on}: "
        f"routed {_change(routed)}, mean experts {routed.before.mean_experts:.3f} -> "
        f"{routed.after.mean_experts:.3f}; all experts {_change(full)}."
    )


def _change(drop: PairedDrop) -> str:
    before, after = 100 * drop.before.accuracy.overall, 100 * drop.after.accuracy.overall
    lost, error = 100 * drop.drop, 100 * drop.standard_error
    return f"{before:.2f} -> {after:.2f} % ({lost:+.2f} points lost, standard error {error:.2f})"


def _quantization(
    comparison: Comparison, images: QuantizationImages, request: QuantizationRequest
) -> Quantization:
    calibration, settings = None, FP16_SETTINGS
    if images.calibration is not None:
        settings = INT8_SETTINGS
        source = images.calibration.description or "images held out of training"
        calibration = Calibration(len(images.calibration), source)
    return Quantization(
        calibration=calibration,
        measured_on=images.measured_on,
        images=comparison.images,
        routed=comparison.routed,
        all_experts=comparison.all_experts,
        max_drop=request.max_drop / 100,
        settings={**settings, "onnxruntime": ort.__version__},
    )


def _calibration_inputs(
    stage: int, engine: Engine, images: LabelledImages, config: DataConfig
) -> Iterator[Inputs]:
    """Inputs of a stage's graph, a batch at a time: features are large."""
    for batch, _ in plain_batches(images, config, _CPU, _CALIBRATION_BATCH):
        yield next(islice(engine.every_stage(batch.numpy()), stage - 1, None)).feeds


def _test_batches(images: QuantizationImages, console: Console) -> Iterator[tuple[Tensor, Tensor]]:
    batches = plain_batches(images.test, images.config, _CPU, _TEST_BATCH)
    total = math.ceil(len(images.test) / _TEST_BATCH)
    return iter(track(batches, "measuring accuracy", total, console=console, transient=True))
