"""Manifests, and how tests damage them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import (
    latest_version,
    manifest_path,
)

GEAR = {
    "thresholds": [0.25, 0.5],
    "mean_experts": 1.5,
    "mean_multiply_adds": 7.5e7,
    "accuracy": {"overall": 0.4, "many": 0.6, "medium": 0.3, "few": None},
    "measured_on": "10,000 test images",
}
MEASUREMENT = {"accuracy": GEAR["accuracy"], "mean_experts": 1.5}
DROP = {"before": MEASUREMENT, "after": MEASUREMENT, "drop": 0.0, "standard_error": 0.001}
QUANTIZATION = {
    "calibration": {"images": 512, "source": "held-out images"},
    "measured_on": "10,000 test images",
    "images": 10_000,
    "routed": DROP,
    "all_experts": DROP,
    "max_drop": 0.005,
    "settings": {"weights": "int8"},
}
Change = Callable[[dict[str, Any]], object]
HUGE = 10**400


def written(repository: Path) -> Path:
    return manifest_path(repository, latest_version(repository))


def load(repository: Path) -> Manifest:
    return load_manifest(repository, latest_version(repository))


def change(repository: Path, alter: Change) -> None:
    path = written(repository)
    document = json.loads(path.read_text())
    alter(document)
    path.write_text(json.dumps(document))


def at(*keys: str | int, value: object) -> Change:
    """Sets a value deep in the manifest."""

    def alter(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return alter


def stops(images: int, shares: list[float]) -> Change:
    """Says where images stopped."""
    return at("stops", value={"images": images, "stopped_after": shares})


def with_gears(*changes: Change) -> Change:
    """Gives it good gears, and then changes something in it."""

    def alter(document: dict[str, Any]) -> None:
        document["gears"] = {name: copy.deepcopy(GEAR) for name in ("fast", "balanced", "full")}
        for change in changes:
            change(document)

    return alter


def quantised(*changes: Change) -> Change:
    """Makes it a good int8 manifest, and then changes something in it."""

    def alter(document: dict[str, Any]) -> None:
        document["precision"] = "int8"
        document["quantization"] = copy.deepcopy(QUANTIZATION)
        for change in changes:
            change(document)

    return alter
