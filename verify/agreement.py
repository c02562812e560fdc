"""Counts what comparisons came to, and keeps the first few that are worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from verify.responses import Response
from verify.verdict import Verdict, VerdictKind

Item = TypeVar("Item")

_MOST_EXAMPLES = 20


@dataclass(frozen=True)
class Discrepancy:
    """An image that got two responses, in words, and what is to be said about them."""

    image: str
    reference: str
    other: str
    why: str


@dataclass(frozen=True)
class RejectedImage:
    """An image that no engine answers, and the reference's reason."""

    image: str
    reason: str


@dataclass
class Examples(Generic[Item]):
    """How many there are, and the first 20."""

    count: int = 0
    first: list[Item] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Count it, and keep it if there is room."""
        self.count += 1
        if len(self.first) < _MOST_EXAMPLES:
            self.first.append(item)


@dataclass
class EngineAgreement:
    """An engine against the reference.

    Attributes:
        engine: its name.
        images: that at least one of the two answers.
        same_top_1, same_experts: images answered alike.
        max_probability_difference: of any class of an image that took the same experts.
        ties, differences: images that were not answered alike; see `Criteria.judge`.
    """

    engine: str
    images: int = 0
    same_top_1: int = 0
    same_experts: int = 0
    max_probability_difference: float = 0.0
    ties: Examples[Discrepancy] = field(default_factory=Examples)
    differences: Examples[Discrepancy] = field(default_factory=Examples)

    def add(
        self,
        image: str,
        reference: Response,
        other: Response,
        verdict: Verdict,
        class_names: Sequence[str],
    ) -> None:
        """Count an image that was answered."""
        self.images += 1
        self.same_top_1 += verdict.same_top_1
        self.same_experts += verdict.same_experts
        self.max_probability_difference = max(
            self.max_probability_difference, verdict.probability_difference or 0.0
        )
        if verdict.kind is VerdictKind.SAME:
            return
        listed = self.ties if verdict.kind is VerdictKind.TIE else self.differences
        answers = (reference.describe(class_names), other.describe(class_names))
        listed.add(Discrepancy(image, *answers, verdict.why))
