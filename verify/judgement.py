"""Whether two replies to the same image are the same, as far as floating point lets them be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from export.ties import NEAR_THRESHOLD, near_threshold
from verify.replies import Answer, Refusal, Reply


class Outcome(StrEnum):
    """What a comparison came to."""

    SAME = "same"
    TIE = "tie"
    """Not the same, and both are right: what decided lay too close for engines to agree on it."""
    DIFFERENCE = "difference"


@dataclass(frozen=True)
class Judgement:
    """The outcome, and why it is not `SAME`.

    `probability_difference` is the largest of any class; None where the two are not comparable,
    because one refused, took other experts or has answers that are not numbers.
    """

    outcome: Outcome
    why: str = ""
    same_top_1: bool = False
    same_experts: bool = False
    probability_difference: float | None = None


@dataclass(frozen=True)
class Judge:
    """Compares replies to a reference.

    Attributes:
        thresholds: the model's, of routers 1..K-1.
        tolerance: by how much the probability of a class may differ.
    """

    thresholds: tuple[float, ...]
    tolerance: float

    def compare(self, reference: Reply, other: Reply) -> Judgement:
        """Say whether `other` is as it should be.

        A tie is an image that took other experts although both engines' scores agree, because the
        router at which they parted scored within 1e-3 of its threshold; or one of another top-1
        although the probabilities agree, because that class is within the tolerance of the best.
        """
        if isinstance(reference, Refusal) and isinstance(other, Refusal):
            return Judgement(Outcome.SAME)
        if isinstance(reference, Refusal) or isinstance(other, Refusal):
            return Judgement(Outcome.DIFFERENCE, "only one of them answers")
        outcome, why = self._outcome(reference, other)
        same_experts = other.experts_used == reference.experts_used
        difference = float(np.abs(other.probabilities - reference.probabilities).max())
        return Judgement(
            outcome,
            why,
            same_top_1=other.top_1 == reference.top_1,
            same_experts=same_experts,
            probability_difference=difference if same_experts and np.isfinite(difference) else None,
        )

    def _outcome(self, reference: Answer, other: Answer) -> tuple[Outcome, str]:
        wrong = self._wrong(reference, other)
        if wrong:
            return Outcome.DIFFERENCE, wrong
        if other.experts_used != reference.experts_used:
            return self._parted(reference, other)
        asked = np.isnan(other.router_scores) == np.isnan(reference.router_scores)
        if not asked.all():
            return Outcome.DIFFERENCE, "other routers were asked"
        difference = np.abs(other.probabilities - reference.probabilities).max()
        if not difference <= self.tolerance:
            return Outcome.DIFFERENCE, f"probabilities differ by {difference:.2g}"
        if other.top_1 != reference.top_1:
            return self._other_top_1(reference, other)
        return Outcome.SAME, ""

    def _wrong(self, reference: Answer, other: Answer) -> str:
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

    def _parted(self, reference: Answer, other: Answer) -> tuple[Outcome, str]:
        last = min(reference.experts_used, other.experts_used)
        near = near_threshold(reference.router_scores, self.thresholds)[last - 1]
        where = (
            f"router {last} scores {reference.router_scores[last - 1]:.5f}, "
            f"its threshold is {self.thresholds[last - 1]:.5f}"
        )
        return (Outcome.TIE if near else Outcome.DIFFERENCE), where

    def _other_top_1(self, reference: Answer, other: Answer) -> tuple[Outcome, str]:
        best = reference.probabilities
        behind = float(best[reference.top_1] - best[other.top_1])
        outcome = Outcome.TIE if behind <= self.tolerance else Outcome.DIFFERENCE
        return outcome, f"the two classes' probabilities are {behind:.2g} apart"
