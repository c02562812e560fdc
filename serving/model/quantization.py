"""What quantisation did to a model, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.model.shot_groups import Accuracy
from serving.model.strict_json import Number, Whole

_ROUNDING = 1e-9


@dataclass(frozen=True)
class AccuracyAtCost:
    """What a way of using the model gave on some images: accuracy and experts of an image."""

    accuracy: Accuracy
    mean_experts: float

    def __post_init__(self) -> None:
        if self.mean_experts < 1:
            raise ValueError("mean_experts must be at least 1")


@dataclass(frozen=True)
class PairedDrop:
    """What quantisation did to one way of using the model, on the same images before and after.

    Attributes:
        before: with the fp32 graphs.
        after: with the quantised graphs.
        drop: overall accuracy that was lost, as a share; negative where some was gained.
        standard_error: of the drop, from the differences image by image.
    """

    before: AccuracyAtCost
    after: AccuracyAtCost
    drop: float
    standard_error: Number

    def __post_init__(self) -> None:
        lost = self.before.accuracy.overall - self.after.accuracy.overall
        if abs(self.drop - lost) > _ROUNDING:
            raise ValueError("drop must be the accuracy before less the accuracy after")
        if self.standard_error < 0:
            raise ValueError("standard_error must not be negative")


@dataclass(frozen=True)
class Calibration:
    """The images that gave the ranges of the activations: how many, and where from, in words."""

    images: Whole
    source: str

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("calibration needs at least one image")


@dataclass(frozen=True)
class Quantization:
    """How graphs of fewer bits were made of fp32 ones, and what that did to the answers.

    Attributes:
        calibration: None for a precision that needs none.
        measured_on: the images of what follows, in words; never those of the calibration.
        images: how many they are.
        routed: with the manifest's thresholds, which stay those of fp32.
        all_experts: with every expert on every image.
        max_drop: the drop of `routed`, as a share, above which there would be no such export.
        settings: how, by the setting's name.
    """

    calibration: Calibration | None
    measured_on: str
    images: Whole
    routed: PairedDrop
    all_experts: PairedDrop
    max_drop: Number
    settings: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("images must be at least 1")
        if self.routed.drop > self.max_drop:
            raise ValueError("the drop of routed must not be above max_drop")
