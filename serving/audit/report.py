"""Figures of audited images, with confidence intervals. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.audit.audited import AuditedImages
from serving.model.proportion import Mean, Proportion
from serving.model.shot_groups import GROUPS


@dataclass(frozen=True)
class StopReport:
    """Of the images that stopped at an expert (from 1): those for which that was too early."""

    expert: int
    missed_help: Proportion


@dataclass(frozen=True)
class FlipReport:
    """Of all images: those whose answer changes when this expert (from 2) joins."""

    expert: int
    flipped: Proportion


@dataclass(frozen=True)
class AuditReport:
    """What is known of the newest audited images.

    Attributes:
        images: how many they are.
        agreement: those whose answer was the full ensemble's; `all`, and by the shot group of the
            full ensemble's answer.
        accuracy_lost: that routing is expected to cost; groups as in `agreement`.
        stops: of each expert but the last, whether images should have gone on.
        flips: of each expert but the first, whether it changes answers.
        wasted: images that took an expert more than they needed.
        wasted_expert_runs: such experts, of all images together.
        expert_runs: experts that the images took, all together.
    """

    images: int
    agreement: dict[str, Proportion]
    accuracy_lost: dict[str, Mean]
    stops: list[StopReport]
    flips: list[FlipReport]
    wasted: Proportion
    wasted_expert_runs: int
    expert_runs: int


def audit_report(images: AuditedImages) -> AuditReport:
    """The figures of some images, none included."""
    missed, wasted, flips = images.missed_help, images.wasted_experts, images.flips
    experts, everyone = images.num_experts, np.ones(len(images), dtype=bool)
    return AuditReport(
        images=len(images),
        agreement=agreement_by_group(images),
        accuracy_lost=accuracy_lost_by_group(images),
        stops=[
            StopReport(expert, _share(missed, images.experts_used == expert))
            for expert in range(1, experts)
        ],
        flips=[
            FlipReport(expert, _share(flips[:, expert - 2], everyone))
            for expert in range(2, experts + 1)
        ],
        wasted=_share(wasted > 0, everyone),
        wasted_expert_runs=int(wasted.sum()),
        expert_runs=int(images.experts_used.sum()),
    )


def agreement_by_group(images: AuditedImages) -> dict[str, Proportion]:
    """Images whose answer was the full ensemble's, `all` and by shot group."""
    agreed = images.agreed
    return {group: _share(agreed, of) for group, of in _members(images).items()}


def accuracy_lost_by_group(images: AuditedImages) -> dict[str, Mean]:
    """The accuracy that routing is expected to cost, `all` and by shot group."""
    lost = images.accuracy_lost.astype(np.float64)
    return {group: _mean(lost[of]) for group, of in _members(images).items()}


def _members(images: AuditedImages) -> dict[str, NDArray[np.bool_]]:
    everyone = np.ones(len(images), dtype=bool)
    groups = {group: images.groups == place for place, group in enumerate(GROUPS)}
    return {"all": everyone, **groups}


def _share(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> Proportion:
    return Proportion.estimate(int((hits & of).sum()), int(of.sum()))


def _mean(values: NDArray[np.float64]) -> Mean:
    return Mean.estimate(float(values.sum()), float((values**2).sum()), len(values))
