"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from training.errors import ConfigError


@dataclass(frozen=True)
class RunResults:
    """What one run answers on the N images of the test split, with C classes.

    `probabilities` [N, C] are the routed answers, `all_experts` [N, C] those of the full
    ensemble, `experts_used` [N] how many experts each routed answer took. Multiply-adds are per
    image: the mean of the routed answers, and the cost of all experts.
    """

    name: str
    probabilities: NDArray[np.float32]
    all_experts: NDArray[np.float32]
    experts_used: NDArray[np.int32]
    mean_multiply_adds: float
    all_experts_multiply_adds: float


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    `facts` say where the numbers come from (data set, commit, date, ...). `labels` [N] are those of
    the test images; `class_counts` [C] count training images. `repeated_runs` are runs on the same
    data with other seeds, the run itself among them; from two on they give bias and variance.
    `curves_missing` says why there are no curves.

    Raises:
        ConfigError: there are no images, or a run has answers for other images or classes.
    """

    title: str
    facts: Mapping[str, str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    run: RunResults
    baselines: tuple[RunResults, ...] = ()
    curves: tuple[Curve, ...] = ()
    curves_missing: str = ""
    operating_points: Mapping[str, CurvePoint] = field(default_factory=dict)
    repeated_runs: tuple[RunResults, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ConfigError("the test split has no images: there is nothing to report on")
        if len(self.class_names) != len(self.class_counts):
            raise ConfigError(
                f"there are {len(self.class_names)} class names, "
                f"but {len(self.class_counts)} class counts"
            )
        for run in (self.run, *self.baselines, *self.repeated_runs):
            self._check_shapes(run)

    def _check_shapes(self, run: RunResults) -> None:
        images, classes = len(self.labels), len(self.class_counts)
        for answers in (run.probabilities, run.all_experts):
            if answers.shape != (images, classes):
                raise ConfigError(
                    f"run {run.name!r} has answers of shape {answers.shape}, the report needs "
                    f"{images} images by {classes} classes: evaluate it on the same test split"
                )
        if run.experts_used.shape != (images,):
            raise ConfigError(
                f"run {run.name!r} says for {run.experts_used.shape} images how many experts "
                f"they took, the report needs {images}"
            )
