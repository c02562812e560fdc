"""How many experts images take, and why."""

from __future__ import annotations

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.grafana.panels import Panel, Query, buckets, graph, runbook
from monitoring.grafana.promql import mean, now, quantile, rate
from serving.metrics import definitions as define

TITLE = "Routing: experts per image"

_VERSION = 'version=~"$version"'


def panels() -> list[Panel]:
    """Experts of images, then the scores that decided."""
    return [*_experts(), *_versions(), *_scores()]


def _experts() -> list[Panel]:
    images = rate(define.IMAGES)
    return [
        graph(
            "Average experts per image",
            "Of all images. Degradation and cheap requests lower it; if nothing else explains a "
            f"change, images are others than they were: {runbook('RideDrift')}.",
            [Query(mean(define.EXPERTS_PER_IMAGE), "experts per image")],
            units.NoUnit,
            least=1,
        ),
        graph(
            "Exits: where images stop",
            "Images that the model's own thresholds answered, by the number of experts that they "
            "took. Those with a wish of their own (quality, threshold, max_experts) and degraded "
            "ones are not in it.",
            [Query(rate(define.OWN_RULE_IMAGES, "experts"), "after expert {{experts}}")],
            units.NoUnit,
            stacked=StackingMode.PERCENT,
        ),
        graph(
            "Images that reach each expert",
            "Of all images, whoever decided. Expert 1 sees every image.",
            [
                Query(
                    f"{rate(define.EXPERT_RUNS, 'expert')} / on () group_left () {images}",
                    "expert {{expert}}",
                )
            ],
            units.PercentUnit,
            most=1,
        ),
    ]


def _versions() -> list[Panel]:
    images = rate(define.VERSION_IMAGES, "version", _VERSION)
    runs = rate(define.VERSION_EXPERT_RUNS, "version", _VERSION)
    return [
        graph(
            "Average experts per image, by version",
            "Compare a new version with the one before it: more experts cost more time, fewer may "
            "cost accuracy (see the audit below).",
            [Query(f"{runs} / {images}", "version {{version}}")],
            units.NoUnit,
            least=1,
        ),
        graph(
            "Images a second, by version",
            "Which version answers how much.",
            [Query(images, "version {{version}}")],
            units.NoUnit,
            stacked=StackingMode.NORMAL,
        ),
        graph(
            "Servers, by version",
            "How far a new version has come. If servers stay apart: "
            f"{runbook('RideVersionsDiffer')}.",
            [
                Query(
                    f"count by (version) ({now(define.MODEL_INFO, _VERSION)})",
                    "version {{version}}",
                )
            ],
            units.NoUnit,
        ),
    ]


def _scores() -> list[Panel]:
    this_router = 'router="$router"'
    scores = buckets(
        "Scores of router $router",
        "Scores that the router gave. Those above the threshold (beside) send an image on. Mass "
        "that moves across the threshold changes what images cost.",
        rate(define.ROUTER_SCORE, "le", this_router, "_bucket"),
        units.NoUnit,
    )
    return [
        buckets(
            "Images by experts taken",
            "Images a second of all servers by the number of experts, degraded ones and those with "
            "a wish of their own included.",
            rate(define.EXPERTS_PER_IMAGE, "le", part="_bucket"),
            units.NoUnit,
        ),
        graph(
            "Router scores and thresholds",
            "The median score of each router, and the threshold that the model has for it: an "
            "image goes on where its score is above.",
            [
                Query(quantile(0.5, define.ROUTER_SCORE, "router"), "router {{router}}: median"),
                Query(
                    f"max by (router) ({now(define.ROUTER_THRESHOLD)})",
                    "router {{router}}: threshold",
                ),
            ],
            units.NoUnit,
            most=1,
        ),
        scores.repeat("router").repeat_direction("h"),
    ]
