"""Counts what comparisons came to, and keeps the first few that are worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from verify.judgement import Judgement, Outcome
from verify.replies import Reply

Item = TypeVar("Item")

LISTED = 20


@dataclass(frozen=True)
class Finding:
    """An image that got two replies, in words, and what is to be said about them."""

    image: str
    reference: str
    other: str
    why: str


@dataclass(frozen=True)
class Refused:
    """An image that no engine answers, and the reference's reason."""

    image: str
    reason: str


@dataclass
class Listed(Generic[Item]):
    """How many there are, and the first 20."""

    count: int = 0
    first: list[Item] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Count it, and keep it if there is room."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(item)


@dataclass
class Tally:
    """An engine against the reference.

    Attributes:
        engine: its name.
        images: that at least one of the two answers.
        same_top_1, same_experts: images answered alike.
        max_probability_difference: of any class of an image that took the same experts.
        ties, differences: images that were not answered alike; see `Judge.compare`.
    """

    engine: str
    images: int = 0
    same_top_1: int = 0
    same_experts: int = 0
    max_probability_difference: float = 0.0
    ties: Listed[Finding] = field(default_factory=Listed)
    differences: Listed[Finding] = field(default_factory=Listed)

    def add(
        self,
        image: str,
        reference: Reply,
        other: Reply,
        judgement: Judgement,
        class_names: Sequence[str],
    ) -> None:
        """Count an image that was answered."""
        self.images += 1
        self.same_top_1 += judgement.same_top_1
        self.same_experts += judgement.same_experts
        self.max_probability_difference = max(
            self.max_probability_difference, judgement.probability_difference or 0.0
        )
        if judgement.outcome is Outcome.SAME:
            return
        listed = self.ties if judgement.outcome is Outcome.TIE else self.differences
        answers = (reference.describe(class_names), other.describe(class_names))
        listed.add(Finding(image, *answers, judgement.why))
