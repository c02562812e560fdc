"""Under too much load: lower the cost of answers first; refuse only what can't be in time. Pure.

The signal is the wait for an answer: for how long the images in the queues have waited, or how long
a new one will take as expected, whichever is longer, and by how much the event loop is behind. From
six tenths of the latency objective on, the server goes down the model's gears one by one, each in
time for the one before it to show; once the wait is below four tenths, and has been for a while, it
goes back up. Where even the last gear leaves the wait near the objective, new requests are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from serving.model.manifest import GEARS, Manifest
from serving.model.routing import RoutingRule

FLOORS = tuple(gear for gear in GEARS if gear != "full")
"""How far a server may degrade: gears that cost less than everything."""

_LOWER_AT = 0.6
_RAISE_AT = 0.4
_REFUSE_AT = 0.75
"""Shares of the objective; what is expected is an average, so some answers take longer."""

_SECONDS_BETWEEN_STEPS = 0.5
"""Share of the objective: how long a step down takes to show in the wait."""

_CALM = 4.0
"""Objectives for which the wait must stay short before a step up: no swinging to and fro."""


@dataclass(frozen=True)
class Load:
    """What the overload control decided for a request."""

    level: int
    refuse: bool


class OverloadControl:
    """Turns waits into a degradation level: 0 for answers as asked, rising as cost is lowered."""

    def __init__(self, levels: int, objective_s: float) -> None:
        """`levels` is the highest level; `objective_s` the latency objective in seconds."""
        self._highest = levels
        self._objective_s = objective_s
        self.level = 0
        self._changed_at = -float("inf")
        self._busy_at = -float("inf")

    def refuses(self, wait_s: float) -> bool:
        """Whether a request that has to wait so long is refused now; nothing is noted of it."""
        return self.level == self._highest and wait_s > _REFUSE_AT * self._objective_s

    def observe(self, wait_s: float, now: float) -> Load:
        """Take note of the wait at a time (seconds of any steady clock), and decide."""
        refuse = wait_s > _REFUSE_AT * self._objective_s
        if wait_s > _RAISE_AT * self._objective_s:
            self._busy_at = now
        if refuse and self.level < self._highest:
            # No time for steps, and nobody is refused before the last one was taken.
            self._set(self._highest, now)
            refuse = False
        elif wait_s > _LOWER_AT * self._objective_s:
            if now - self._changed_at >= _SECONDS_BETWEEN_STEPS * self._objective_s:
                self._set(min(self.level + 1, self._highest), now)
        elif self.level and now - max(self._busy_at, self._changed_at) >= _CALM * self._objective_s:
            self._set(self.level - 1, now)
        return Load(self.level, refuse)

    def _set(self, level: int, now: float) -> None:
        if level != self.level:
            self.level, self._changed_at = level, now


@dataclass(frozen=True)
class Allowed:
    """What load leaves of the rule that was asked for, and whether that is less."""

    rule: RoutingRule
    degraded: bool


@dataclass(frozen=True)
class GearLadder:
    """What each degradation level does to routing: thresholds, level 1 first."""

    thresholds: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, manifest: Manifest, floor: str | None) -> GearLadder:
        """The manifest's gears that cost less than its own rule, dearest first, down to `floor`.

        Empty without a floor, and for a model without gears.
        """
        if floor is None or not manifest.gears:
            return cls(())
        dearest_first = sorted(manifest.gears.values(), key=lambda gear: -gear.mean_experts)
        least = manifest.gears[floor].mean_experts
        return cls(
            tuple(
                gear.thresholds
                for gear in dearest_first
                if gear.mean_experts >= least and _stops_sooner(gear.thresholds, manifest)
            )
        )

    def apply(self, rule: RoutingRule, level: int) -> Allowed:
        """The rule at a level: no image goes on that would not have gone on anyway."""
        if not level or not self.thresholds:
            return Allowed(rule, degraded=False)
        limits = self.thresholds[min(level, len(self.thresholds)) - 1]
        raised = tuple(map(max, rule.thresholds, limits))
        asked = rule.max_experts - 1  # later routers are never asked
        if raised[:asked] == rule.thresholds[:asked]:
            return Allowed(rule, degraded=False)
        return Allowed(replace(rule, thresholds=raised), degraded=True)


def _stops_sooner(thresholds: tuple[float, ...], manifest: Manifest) -> bool:
    pairs = zip(thresholds, manifest.thresholds, strict=True)
    return any(own > usual for own, usual in pairs)
