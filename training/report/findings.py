"""The numbers of a report: worked out once, then drawn, put in tables and saved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.curves import Curve, CurvePoint
from serving.model.shot_groups import GROUPS, shot_groups
from training.report.contents import ReportContents, RunResults
from training.report.statistics import (
    Bools,
    Floats,
    Ints,
    Reliability,
    Spread,
    classes_by_size,
    images_by_group,
    means_by_class,
    reliability,
    shares_of_experts,
    spread,
)

MOST_BINS = 200


@dataclass(frozen=True)
class Summary:
    """Top-1 by shot group and mean cost of a run; `mean_experts` is None for all experts."""

    name: str
    answer: str
    accuracy: Mapping[str, float]
    mean_experts: float | None
    multiply_adds: float


@dataclass(frozen=True)
class ClassBin:
    """Classes of about the same size: one class, or several where there are too many to show.

    `accuracy` is the mean over the classes, for the run and each baseline; `stopped_after` is the
    share of images that took 1..K experts, again a mean over the classes. NaN without test images.
    """

    name: str
    group: str
    classes: int
    mean_count: float
    accuracy: tuple[float, ...]
    stopped_after: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """All numbers of a report.

    `summaries` have each run's routed answers, then those of all its experts: first the run's, then
    the baselines'. Mappings are by shot group, with "overall" first and without empty groups.
    """

    summaries: tuple[Summary, ...]
    stopped_after: Mapping[str, tuple[float, ...]]
    classes: tuple[ClassBin, ...]
    calibration: Mapping[str, Reliability]
    spread: Mapping[str, Spread]
    repeated_runs: int
    curves: tuple[Curve, ...]
    operating_points: Mapping[str, CurvePoint]

    @property
    def routed(self) -> tuple[Summary, ...]:
        """The routed answers alone."""
        return self.summaries[::2]

    @property
    def groups(self) -> tuple[str, ...]:
        """Overall, then the shot groups that have test images."""
        return tuple(self.stopped_after)

    @property
    def experts(self) -> int:
        """K."""
        return len(self.classes[0].stopped_after)

    def to_json(self) -> str:
        """Plain JSON; what is not a number becomes null."""
        return json.dumps(_plain(asdict(self)), indent=1, allow_nan=False)


@dataclass(frozen=True)
class _Answers:
    """The routed answers of a run: class, whether it is right, confidence; each [N]."""

    predicted: Ints
    right: Bools
    confidence: NDArray[np.float32]


def find(contents: ReportContents) -> Findings:
    """Work out everything that the report shows."""
    labels = contents.labels
    groups = images_by_group(labels, contents.class_counts)
    runs = (contents.run, *contents.baselines)
    answers = [_answers(run, labels) for run in runs]
    used, experts = contents.run.experts_used, _experts(contents)
    return Findings(
        summaries=tuple(
            summary
            for run, routed in zip(runs, answers, strict=True)
            for summary in _summaries(run, routed, labels, groups)
        ),
        stopped_after={
            name: tuple(shares_of_experts(used[mask], experts).tolist())
            for name, mask in groups.items()
        },
        classes=_class_bins(contents, [routed.right for routed in answers], experts),
        calibration={
            name: reliability(answers[0].confidence[mask], answers[0].right[mask])
            for name, mask in groups.items()
        },
        spread=_spread(contents, groups),
        repeated_runs=len(contents.repeated_runs),
        curves=tuple(curve for curve in contents.curves if curve.points),
        operating_points=contents.operating_points,
    )


def _answers(run: RunResults, labels: Ints) -> _Answers:
    predicted = run.probabilities.argmax(axis=1)
    return _Answers(predicted, predicted == labels, run.probabilities.max(axis=1))


def _experts(contents: ReportContents) -> int:
    """K: as many as an image took, or as the thresholds speak of; no image may need the last."""
    settings = [point for curve in contents.curves for point in curve.points]
    settings += contents.operating_points.values()
    asked = [len(point.thresholds) + 1 for point in settings]
    return max([int(contents.run.experts_used.max()), *asked])


def _summaries(
    run: RunResults, routed: _Answers, labels: Ints, groups: Mapping[str, Bools]
) -> tuple[Summary, Summary]:
    everything = run.all_experts.argmax(axis=1) == labels
    return (
        Summary(
            name=run.name,
            answer="routed",
            accuracy=_means(routed.right, groups),
            mean_experts=float(run.experts_used.mean()),
            multiply_adds=run.mean_multiply_adds,
        ),
        Summary(
            name=run.name,
            answer="all experts",
            accuracy=_means(everything, groups),
            mean_experts=None,
            multiply_adds=run.all_experts_multiply_adds,
        ),
    )


def _means(right: Bools, groups: Mapping[str, Bools]) -> dict[str, float]:
    return {name: float(right[mask].mean()) for name, mask in groups.items()}


def _class_bins(
    contents: ReportContents, right: Sequence[Bools], experts: int
) -> tuple[ClassBin, ...]:
    labels, counts = contents.labels, np.asarray(contents.class_counts)
    accuracies = [means_by_class(run, labels, len(counts)) for run in right]
    used = contents.run.experts_used
    stops = [means_by_class(used == k, labels, len(counts)) for k in range(1, experts + 1)]
    bins, rank = [], 1
    for classes in classes_by_size(contents.class_counts, MOST_BINS):
        last = rank + len(classes) - 1
        one = contents.class_names[classes[0]]
        bins.append(
            ClassBin(
                name=one if len(classes) == 1 else f"ranks {rank} to {last}",
                group=GROUPS[shot_groups([float(np.median(counts[classes]))])[0]],
                classes=len(classes),
                mean_count=float(counts[classes].mean()),
                accuracy=tuple(_known_mean(accuracy[classes]) for accuracy in accuracies),
                stopped_after=tuple(_known_mean(stop[classes]) for stop in stops),
            )
        )
        rank = last + 1
    return tuple(bins)


def _known_mean(values: Floats) -> float:
    """The mean of what is not NaN; NaN if there is nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _spread(contents: ReportContents, groups: Mapping[str, Bools]) -> dict[str, Spread]:
    """Empty with fewer than two runs."""
    if len(contents.repeated_runs) < 2:
        return {}
    predicted = np.stack([run.probabilities.argmax(axis=1) for run in contents.repeated_runs])
    return {
        name: spread(predicted[:, mask], contents.labels[mask]) for name, mask in groups.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
