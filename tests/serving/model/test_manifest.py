"""What a manifest says, and that it survives being written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.model.manifest import Gear, MultiplyAdds, Stops
from serving.model.manifest_json import parse_manifest
from serving.model.quantization import AccuracyAtCost, Calibration, PairedDrop, Quantization
from serving.model.repository import (
    graph_models,
)
from serving.model.shot_groups import Accuracy
from tests.serving.model.manifests import (
    at,
    change,
    load,
    quantised,
    stops,
    with_gears,
)


def test_a_manifest_survives_being_written(repository: Path) -> None:
    manifest = load(repository)
    assert parse_manifest(manifest.to_json()) == manifest


def test_a_manifest_with_corrections_survives_being_written(repository: Path) -> None:
    manifest = load(repository)
    row = tuple(i / 4 for i in range(manifest.num_classes))
    corrected = replace(manifest, corrections=(row,) * manifest.num_experts)
    assert parse_manifest(corrected.to_json()) == corrected


def test_gears_are_read_and_survive_being_written(repository_copy: Path) -> None:
    change(repository_copy, with_gears(at("gears", "full", "mean_experts", value=3)))
    manifest = load(repository_copy)
    assert list(manifest.gears) == ["fast", "balanced", "full"]
    assert manifest.gears["full"].mean_experts == 3
    assert manifest.gears["fast"] == Gear(
        (0.25, 0.5), 1.5, 7.5e7, Accuracy(0.4, 0.6, 0.3, None), "10,000 test images"
    )
    assert parse_manifest(manifest.to_json()) == manifest


def test_where_images_stop_is_read_and_survives_being_written(repository_copy: Path) -> None:
    unchanged = load(repository_copy)
    stopped_after = unchanged.evaluation["routed"]["stopped_after"]
    assert unchanged.expected_stops == Stops(10_000, tuple(stopped_after))
    change(repository_copy, stops(400, [0.5, 0.25, 0.25]))
    manifest = load(repository_copy)
    assert manifest.expected_stops == manifest.stops == Stops(400, (0.5, 0.25, 0.25))
    assert parse_manifest(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "field",
    [
        {"thresholds": [0.1, 0.2]},
        {"thresholds": 5},
        {"images": 0},
        {"images": "many"},
        {"routed": 7},
        {"routed": {"stopped_after": [0.5, 0.5]}},
        {"routed": {"stopped_after": [0.5, 0.5, 0.5]}},
        {"routed": {"stopped_after": [0.5, 0.5, "few"]}},
    ],
)
def test_an_evaluation_of_something_else_says_nothing_of_stops(
    repository_copy: Path, field: dict[str, Any]
) -> None:
    evaluation = dict(load(repository_copy).evaluation)
    change(repository_copy, at("evaluation", value={**evaluation, **field}))
    assert load(repository_copy).expected_stops is None


@pytest.mark.parametrize("calibration", [{"images": 512, "source": "held-out images"}, None])
def test_quantisation_is_read_and_survives_being_written(
    repository_copy: Path, calibration: object
) -> None:
    change(repository_copy, quantised(at("quantization", "calibration", value=calibration)))
    manifest = load(repository_copy)
    measurement = AccuracyAtCost(Accuracy(0.4, 0.6, 0.3, None), 1.5)
    drop = PairedDrop(measurement, measurement, 0.0, 0.001)
    assert manifest.precision == "int8"
    assert manifest.quantization == Quantization(
        calibration=None if calibration is None else Calibration(512, "held-out images"),
        measured_on="10,000 test images",
        images=10_000,
        routed=drop,
        all_experts=drop,
        max_drop=0.005,
        settings={"weights": "int8"},
    )
    assert parse_manifest(manifest.to_json()) == manifest


def test_the_cost_of_an_image_is_the_sum_of_what_it_ran() -> None:
    costs = MultiplyAdds(backbone=100, experts=(10, 20, 30), routers=(1, 2))
    assert costs.spent(1, 0) == 110
    assert costs.spent(1, 1) == 111
    assert costs.spent(2, 2) == 133
    assert costs.spent(3, 2) == 163
    assert costs.all_experts == 160


def test_graphs_come_in_the_order_in_which_an_image_meets_them() -> None:
    assert graph_models(1) == ["stage_1"]
    assert graph_models(3) == ["stage_1", "stage_2", "stage_3"]
