"""What was done for a request, and when: the data of its trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a request's work, from `start` to `end` of `time.monotonic()`, in seconds."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


class Timeline:
    """A request's steps, in the order in which they ended. Any thread may add some."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, name: str, start: float, end: float, **attributes: Attribute) -> None:
        """Note a step that has ended."""
        self.steps.append(Step(name, start, end, attributes))
