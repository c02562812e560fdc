"""What quantisation does to the answers: both engines, the same images, the same rules.

Routed is what `Engine.classify` answers, as in the server, so that moved router scores count too:
an image that stops earlier because of them is part of the drop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from serving.engine.graphs import Engine
from serving.model.manifest import Gear, Manifest
from serving.model.quantization import AccuracyAtCost, PairedDrop
from serving.model.routing import RoutingRule
from training.evaluation import Answers, Result, result


@dataclass(frozen=True)
class Comparison:
    """The fp32 engine and the quantised one on a number of images.

    Attributes:
        images: how many.
        routed: with the manifest's thresholds.
        all_experts: with every expert on every image.
        gears: the manifest's, with what they give after quantisation.
    """

    images: int
    routed: PairedDrop
    all_experts: PairedDrop
    gears: dict[str, Gear]


def compare_engines(
    before: Engine, after: Engine, batches: Iterable[tuple[Tensor, Tensor]], measured_on: str
) -> Comparison:
    """Measure on batches of images, uint8 [N, H, W, 3], and labels, int64 [N].

    Both engines are of the same model; `measured_on` names the images in the gears.
    """
    routed, full = before.rule(), before.rule(threshold=0.0)
    gears = {name: before.rule(quality=name) for name in before.manifest.gears}
    first = _Collector(before, [routed, full])
    second = _Collector(after, [routed, full, *gears.values()])
    labels: list[NDArray[np.int64]] = []
    for images, truth in batches:
        first.add(images.numpy())
        second.add(images.numpy())
        labels.append(truth.numpy())
    right = np.concatenate(labels)

    def drop(rule: RoutingRule) -> PairedDrop:
        return paired_drop(first.answers(rule), second.answers(rule), right, before.manifest)

    return Comparison(
        images=len(right),
        routed=drop(routed),
        all_experts=drop(full),
        gears={
            name: _gear(gear, second.answers(gears[name]), right, before.manifest, measured_on)
            for name, gear in before.manifest.gears.items()
        },
    )


def paired_drop(
    before: Answers, after: Answers, labels: NDArray[np.int64], manifest: Manifest
) -> PairedDrop:
    """The accuracy that was lost, with the standard error of a mean of paired differences.

    An image that is right both times, or wrong both times, tells nothing; so the error is smaller
    than that of either accuracy.
    """
    differences = (before.predicted == labels).astype(float) - (after.predicted == labels)
    one, other = (_result(answers, labels, manifest) for answers in (before, after))
    return PairedDrop(
        before=AccuracyAtCost(one.accuracy, one.mean_experts),
        after=AccuracyAtCost(other.accuracy, other.mean_experts),
        drop=one.accuracy.overall - other.accuracy.overall,
        standard_error=float(differences.std() / np.sqrt(len(labels))),
    )


class _Collector:
    """What an engine answers by each of several rules, which may be equal."""

    def __init__(self, engine: Engine, rules: Iterable[RoutingRule]) -> None:
        self._engine = engine
        self._parts: dict[RoutingRule, list[Answers]] = {rule: [] for rule in rules}

    def add(self, images: NDArray[np.uint8]) -> None:
        """Answer a batch, uint8 [N, H, W, 3], by every rule."""
        for rule, parts in self._parts.items():
            parts.append(Answers.of(self._engine.classify(images, rule)))

    def answers(self, rule: RoutingRule) -> Answers:
        """All answers by one of the rules."""
        return Answers.concatenate(self._parts[rule])


def _result(answers: Answers, labels: NDArray[np.int64], manifest: Manifest) -> Result:
    return result(answers, labels, manifest.class_counts, manifest.multiply_adds)


def _gear(
    gear: Gear,
    answers: Answers,
    labels: NDArray[np.int64],
    manifest: Manifest,
    measured_on: str,
) -> Gear:
    measured = _result(answers, labels, manifest)
    return replace(
        gear,
        mean_experts=measured.mean_experts,
        mean_multiply_adds=measured.mean_multiply_adds,
        accuracy=measured.accuracy,
        measured_on=measured_on,
    )
