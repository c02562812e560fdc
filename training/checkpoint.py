"""A run's checkpoint: weights, the config that rebuilds the model, and where training stands.

One file, `checkpoint.pt`, in the run's folder. It is written beside and renamed, so that whatever
happens there is always a whole one. Only tensors and plain values are read back: a pickled object
in it is refused, not run.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from serving.files import replacing
from serving.model.manifest import Gear
from serving.model.manifest_json import parse_gears
from training.checks import check_config
from training.config import TrainingConfig
from training.errors import CheckpointError, ConfigError
from training.losses.balanced_softmax import (
    expert_adjustments,
    prefix_corrections,
    prior_adjustments,
)
from training.model import RideModel
from training.provenance import file_digest

FILE_NAME = "checkpoint.pt"
_FORMAT = "ride-checkpoint-1"


class Stage(StrEnum):
    """What is being trained, in order."""

    EXPERTS = "experts"
    CLASSIFIERS = "classifiers"
    ROUTERS = "routers"
    DONE = "done"


@dataclass(frozen=True)
class Position:
    """The next step of training: stage, epoch and step within the epoch, all from 0."""

    stage: Stage = Stage.EXPERTS
    epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        if self.stage is Stage.DONE:
            return "finished"
        return f"{self.stage}, epoch {self.epoch + 1}, step {self.step}"


@dataclass
class Checkpoint:
    """Everything that a run has come to.

    `optimiser` and `average` (the moving average of the weights) are empty between stages.
    `routing` is what `ride route` chose: `thresholds` of routers 1..K-1, `gears` as in the
    manifest, `prior_adjustment`, and `chosen_on`, a word about the images. Empty if it never did.
    """

    config: TrainingConfig
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    data_fingerprint: str
    position: Position
    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    provenance: dict[str, Any]
    average: dict[str, Any] = field(default_factory=dict)
    routing: dict[str, Any] = field(default_factory=dict)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of routers 1..K-1: those that were chosen, else the configuration's for each."""
        routers = self.config.model.num_experts - 1
        return tuple(self.routing.get("thresholds", (self.config.router.threshold,) * routers))

    @property
    def gears(self) -> Mapping[str, Gear]:
        """The gears that were chosen; none if `ride route` never did."""
        return parse_gears(self.routing.get("gears", {}))

    @property
    def prior_adjustment(self) -> float:
        """The strength at which the prior is taken out of every answer, after training."""
        return float(self.routing.get("prior_adjustment", 0.0))

    def prefix_corrections(self, prior_adjustment: float | None = None) -> torch.Tensor:
        """What is added to the mean logits of the first 1..K experts, fp32 [K, C].

        Args: another strength than the run's own `prior_adjustment`.
        """
        strength = self.prior_adjustment if prior_adjustment is None else prior_adjustment
        counts, experts = torch.tensor(self.class_counts), self.config.model.num_experts
        trained = prefix_corrections(expert_adjustments(self.config.loss, counts, experts))
        return trained - prior_adjustments(counts, (strength,), (0.0,), experts)

    def build_model(self) -> RideModel:
        """The model with the checkpoint's weights, on the CPU, in eval mode.

        Raises:
            CheckpointError: if weights are missing, left over or of another shape.
        """
        model = RideModel(self.config.model)
        try:
            model.load_state_dict(self.model)
        except (RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(
                f"the weights do not fit the run's configuration: {reason}"
            ) from None
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, run: Path) -> None:
    """Replace the run's checkpoint in one step.

    Raises:
        CheckpointError: if it could not be written; the one before it is still whole.
    """
    content = {
        "format": _FORMAT,
        "config": checkpoint.config.to_dict(),
        "class_names": list(checkpoint.class_names),
        "class_counts": list(checkpoint.class_counts),
        "data_fingerprint": checkpoint.data_fingerprint,
        "position": [
            str(checkpoint.position.stage),
            checkpoint.position.epoch,
            checkpoint.position.step,
        ],
        "model": checkpoint.model,
        "optimiser": checkpoint.optimiser,
        "provenance": checkpoint.provenance,
        "average": checkpoint.average,
        "routing": checkpoint.routing,
    }
    encoded = io.BytesIO()
    torch.save(content, encoded)
    path = run / FILE_NAME
    try:
        with replacing(path) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written: {error.strerror}. The checkpoint before it, "
            "if there is one, is whole: mend this, and go on from there"
        ) from error


def load_checkpoint(run: Path) -> Checkpoint:
    """Read a run's checkpoint onto the CPU.

    Args: the run's folder, or a checkpoint file itself.

    Raises:
        CheckpointError: if there is none, or it is damaged, or not one of ours.
    """
    path = _file(run)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        content = _read(path)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds something other than weights and settings, so it was not opened"
        ) from None
    except Exception as error:  # noqa: BLE001, a damaged archive makes torch raise anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{path} is damaged or not a checkpoint ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of ride train")
    return _parse(content, path)


def load_finished(run: Path) -> Checkpoint:
    """Like `load_checkpoint`, for a run whose training is done.

    Raises:
        CheckpointError: also if training is still under way.
    """
    checkpoint = load_checkpoint(run)
    if checkpoint.position.stage is not Stage.DONE:
        raise CheckpointError(
            f"training of {run} is not finished (it stands at {checkpoint.position}): "
            f"go on with ride train --resume --output {run}"
        )
    return checkpoint


def checkpoint_digest(run: Path) -> str:
    """SHA-256 of the run's checkpoint file, or of a checkpoint file itself."""
    return file_digest(_file(run))


def _file(run: Path) -> Path:
    return run / FILE_NAME if run.is_dir() else run


def _read(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:  # torch.load does not look at checksums
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _parse(content: dict[str, Any], path: Path) -> Checkpoint:
    try:
        stage, epoch, step = content["position"]
        checkpoint = Checkpoint(
            config=TrainingConfig.from_dict(content["config"]),
            class_names=tuple(str(name) for name in content["class_names"]),
            class_counts=tuple(int(count) for count in content["class_counts"]),
            data_fingerprint=str(content.get("data_fingerprint", "")),
            position=Position(Stage(stage), int(epoch), int(step)),
            model=content["model"],
            optimiser=content["optimiser"],
            provenance=content["provenance"],
            average=content.get("average", {}),
            routing=content.get("routing", {}),  # earlier versions had none
        )
        _check_routing(checkpoint)
        check_config(checkpoint.config)
    except ConfigError as error:
        raise CheckpointError(f"{path} has settings that make no sense: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from None
    classes = checkpoint.config.model.num_classes
    if len(checkpoint.class_names) != classes or len(checkpoint.class_counts) != classes:
        raise CheckpointError(f"{path} is damaged: it does not describe all {classes} classes")
    return checkpoint


def _check_routing(checkpoint: Checkpoint) -> None:
    if not math.isfinite(checkpoint.prior_adjustment):
        raise ValueError("the prior adjustment must be a finite number")
    gears = checkpoint.gears.values()
    for thresholds in (checkpoint.thresholds, *(gear.thresholds for gear in gears)):
        if len(thresholds) != checkpoint.config.model.num_experts - 1:
            raise ValueError("there must be one threshold for each expert but the last")
        if not all(type(value) is float and 0 <= value <= 1 for value in thresholds):
            raise ValueError("every threshold must lie between 0 and 1")
