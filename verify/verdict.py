"""Whether two responses to the same image are the same, as far as floating point lets them be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from export.ties import NEAR_THRESHOLD, near_threshold
from verify.responses import Prediction, Rejection, Response


class VerdictKind(StrEnum):
    """What a comparison came to."""

    SAME = "same"
    TIE = "tie"
    """Not the same, and both are right: what decided lay too close for engines to agree on it."""
    DIFFERENCE = "difference"


@dataclass(frozen=True)
class Verdict:
    """The kind, and why it is not `SAME`.

    `probability_difference` is the largest of any class; None where the two are not comparable,
    because one refused, took other experts or has answers that are not numbers.
    """

    kind: VerdictKind
    why: str = ""
    same_top_1: bool = False
    same_experts: bool = False
    probability_difference: float | None = None


@dataclass(frozen=True)
class Criteria:
    """Compares responses to a reference.

    Attributes:
        thresholds: the model's, of routers 1..K-1.
        tolerance: by how much the probability of a class may differ.
    """

    thresholds: tuple[float, ...]
    tolerance: float

    def judge(self, reference: Response, other: Response) -> Verdict:
        """Say whether `other` is as it should be.

        A tie is an image that took other experts although both engines' scores agree, because the
        router at which they parted scored within 1e-3 of its threshold; or one of another top-1
        although the probabilities agree, because that class is within the tolerance of the best.
        """
        if isinstance(reference, Rejection) and isinstance(other, Rejection):
            return Verdict(VerdictKind.SAME)
        if isinstance(reference, Rejection) or isinstance(other, Rejection):
            return Verdict(VerdictKind.DIFFERENCE, "only one of them answers")
        kind, why = self._kind_and_reason(reference, other)
        same_experts = other.experts_used == reference.experts_used
        difference = float(np.abs(other.probabilities - reference.probabilities).max())
        return Verdict(
            kind,
            why,
            same_top_1=other.top_1 == reference.top_1,
            same_experts=same_experts,
            probability_difference=difference if same_experts and np.isfinite(difference) else None,
        )

    def _kind_and_reason(self, reference: Prediction, other: Prediction) -> tuple[VerdictKind, str]:
        wrong = self._wrong(reference, other)
        if wrong:
            return VerdictKind.DIFFERENCE, wrong
        if other.experts_used != reference.experts_used:
            return self._parted(reference, other)
        asked = np.isnan(other.router_scores) == np.isnan(reference.router_scores)
        if not asked.all():
            return VerdictKind.DIFFERENCE, "other routers were asked"
        difference = np.abs(other.probabilities - reference.probabilities).max()
        if not difference <= self.tolerance:
            return VerdictKind.DIFFERENCE, f"probabilities differ by {difference:.2g}"
        if other.top_1 != reference.top_1:
            return self._other_top_1(reference, other)
        return VerdictKind.SAME, ""

    def _wrong(self, reference: Prediction, other: Prediction) -> str:
        """What no tie excuses."""
        if not np.isfinite(other.probabilities).all():
            return "probabilities are not numbers"
        experts = len(self.thresholds) + 1
        if not 1 <= other.experts_used <= experts:
            return f"there are experts 1 to {experts}"
        difference = np.abs(other.router_scores - reference.router_scores)
        both = ~np.isnan(other.router_scores) & ~np.isnan(reference.router_scores)
        for router in np.flatnonzero(both & ~(difference <= NEAR_THRESHOLD)):
            return f"scores of router {router + 1} differ by {difference[router]:.2g}"
        return ""

    def _parted(self, reference: Prediction, other: Prediction) -> tuple[VerdictKind, str]:
        last = min(reference.experts_used, other.experts_used)
        near = near_threshold(reference.router_scores, self.thresholds)[last - 1]
        where = (
            f"router {last} scores {reference.router_scores[last - 1]:.5f}, "
            f"its threshold is {self.thresholds[last - 1]:.5f}"
        )
        return (VerdictKind.TIE if near else VerdictKind.DIFFERENCE), where

    def _other_top_1(self, reference: Prediction, other: Prediction) -> tuple[VerdictKind, str]:
        best = reference.probabilities
        behind = float(best[reference.top_1] - best[other.top_1])
        kind = VerdictKind.TIE if behind <= self.tolerance else VerdictKind.DIFFERENCE
        return kind, f"the two classes' probabilities are {behind:.2g} apart"
