"""The routing rule that a request gets: the model's own numbers, or others in their place."""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.model.manifest import Gear, Manifest
from serving.model.routing import RoutingRule


def routing_rule(
    manifest: Manifest,
    max_experts: int | None = None,
    threshold: float | None = None,
    quality: str | None = None,
) -> RoutingRule:
    """The manifest's routing rule, with what a request asks for in place of its own numbers.

    Raises:
        InvalidRequest: if one is out of range or contradicts another.
    """
    experts = manifest.num_experts
    if max_experts is not None and not 1 <= max_experts <= experts:
        raise InvalidRequest(f"max_experts must lie between 1 and {experts}, not {max_experts}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InvalidRequest(f"threshold must lie between 0 and 1, not {threshold}")
    if threshold is not None and quality is not None:
        raise InvalidRequest("threshold and quality both set thresholds: give one of them")
    thresholds = manifest.thresholds
    if threshold is not None:
        thresholds = (threshold,) * len(thresholds)
    if quality is not None:
        thresholds = _gear(manifest, quality).thresholds
    most = experts if max_experts is None else max_experts
    return RoutingRule(thresholds, most, manifest.prefix_corrections)


def _gear(manifest: Manifest, quality: str) -> Gear:
    gears = manifest.gears
    if not gears:
        raise InvalidRequest("this model has no gears, so it takes no quality")
    if quality not in gears:
        raise InvalidRequest(f"quality must be one of {', '.join(gears)}, not {quality!r}")
    return gears[quality]
