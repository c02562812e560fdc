"""The manifest: what is read is what was written, and nothing else is read at all."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ModelRepositoryError
from serving.model.manifest import Gear, Manifest, MultiplyAdds, Stops
from serving.model.manifest_json import load_manifest, parse_manifest
from serving.model.quantization import Calibration, Measurement, PairedDrop, Quantization
from serving.model.repository import (
    graph_models,
    graph_path,
    latest_version,
    manifest_path,
    read_graph,
    versions,
)
from serving.model.shot_groups import Accuracy

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
    measurement = Measurement(Accuracy(0.4, 0.6, 0.3, None), 1.5)
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


def test_the_latest_version_is_the_highest_number_with_a_manifest(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "011", "v3", "\u0664"):
        (tmp_path / "ride" / name).mkdir(parents=True)
        (tmp_path / "ride" / name / "manifest.json").touch()
    (tmp_path / "ride" / "12").mkdir()
    assert versions(tmp_path) == [1, 2, 10]
    assert latest_version(tmp_path) == 10


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRepositoryError, match="there is no model repository .*nowhere"):
        latest_version(tmp_path / "nowhere")


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelRepositoryError, match="there is no model repository .*file"):
        latest_version(tmp_path / "file")


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelRepositoryError, match="holds no model: there is no ride/<version>/"):
        latest_version(tmp_path)


@pytest.mark.parametrize(
    ("alter", "sentence"),
    [
        (at("schema_version", value=5), "schema_version is 5, and this server reads 4"),
        (at("schema_version", value=3), "split into other graphs: export the run again with `ride"),
        (at("schema_version", value=1), "schema_version is 1, from when a model was split"),
        (quantised(lambda document: document.pop("precision")), ": precision: Field required"),
        (quantised(at("precision", value="int4")), "precision must be one of fp32, int8, fp16"),
        (quantised(at("precision", value=8)), "precision: Input should be a valid string"),
        (quantised(at("precision", value="fp32")), "quantization must be an object for int8"),
        (quantised(at("quantization", value=None)), "quantization must be an object for int8"),
        (quantised(at("quantization", value=[])), "quantization: Input should be an object"),
        (quantised(at("quantization", "bits", value=8)), "quantization.bits: Unknown field"),
        (quantised(at("quantization", "images", value=0)), "images must be at least 1"),
        (
            quantised(at("quantization", "images", value=9.5)),
            "images: Input should be a valid integer",
        ),
        (
            quantised(at("quantization", "measured_on", value="")),
            "measured_on: String should have at least 1",
        ),
        (quantised(at("quantization", "max_drop", value=-0.01)), "must not be above max_drop"),
        (
            quantised(at("quantization", "max_drop", value=None)),
            "max_drop: Input should be a valid number",
        ),
        (
            quantised(at("quantization", "settings", value={"a": 1})),
            "settings.a: Input should be a valid string",
        ),
        (quantised(at("quantization", "calibration", "images", value=0)), "at least one image"),
        (
            quantised(at("quantization", "calibration", value=7)),
            "calibration: Input should be an object",
        ),
        (
            quantised(at("quantization", "routed", "drop", value=0.001)),
            "drop must be the accuracy before less the accuracy after",
        ),
        (
            quantised(at("quantization", "routed", "standard_error", value=-1)),
            "standard_error must not be negative",
        ),
        (
            quantised(at("quantization", "all_experts", "after", "mean_experts", value=0.5)),
            "mean_experts must be at least 1",
        ),
        (
            quantised(at("quantization", "all_experts", "after", "mean_experts", value=3.5)),
            "mean_experts must lie between 1 and the number of experts",
        ),
        (
            quantised(at("quantization", "routed", "before", "accuracy", "few", value=2)),
            "accuracy must lie between 0 and 1",
        ),
        (
            quantised(lambda document: document["quantization"]["routed"].pop("before")),
            "routed.before: Field required",
        ),
        (at("schema_version", value=0), "schema_version is 0"),
        (with_gears(lambda document: document.pop("gears")), ": gears: Field required"),
        (at("stops", value=[]), "stops: Input should be an object"),
        (at("stops", value={"images": 5}), "stops.stopped_after: Field required"),
        (stops(0, [0.5, 0.25, 0.25]), "images must be at least 1"),
        (stops(9, [0.5, 0.5]), "stopped_after must hold 3 shares"),
        (stops(9, [0.5, 0.5, 0.5]), "must add up to 1"),
        (stops(9, [1.5, -0.25, -0.25]), "every share of stopped_after must lie between 0 and 1"),
        (with_gears(at("gears", value=[])), "gears: Input should be an object"),
        (with_gears(at("gears", value={"fast": GEAR})), "gears must be fast, balanced, full"),
        (with_gears(at("gears", "turbo", value=GEAR)), "gears must be fast, balanced, full"),
        (with_gears(at("gears", "fast", value=None)), "gears.fast: Input should be an object"),
        (with_gears(at("gears", "fast", "speed", value=1)), "gears.fast.speed: Unknown field"),
        (
            with_gears(lambda document: document["gears"]["full"].pop("accuracy")),
            "gears.full.accuracy: Field required",
        ),
        (with_gears(at("gears", "fast", "thresholds", value=[0.5])), "in every gear"),
        (with_gears(at("gears", "fast", "thresholds", 0, value=1.5)), "lie between 0 and 1"),
        (
            with_gears(at("gears", "fast", "thresholds", 0, value="0")),
            r"thresholds\[0\]: Input should be a valid number",
        ),
        (with_gears(at("gears", "fast", "mean_experts", value=0.9)), "mean_experts must lie"),
        (with_gears(at("gears", "fast", "mean_experts", value=3.1)), "mean_experts must lie"),
        (
            with_gears(at("gears", "fast", "mean_experts", value=True)),
            "mean_experts: Input should be a valid number",
        ),
        (with_gears(at("gears", "fast", "mean_multiply_adds", value=-1)), "must not be negative"),
        (
            with_gears(at("gears", "fast", "mean_multiply_adds", value=float("nan"))),
            "adds: Input should be a finite",
        ),
        (
            with_gears(at("gears", "fast", "measured_on", value="")),
            "measured_on: String should have at least 1",
        ),
        (
            with_gears(at("gears", "fast", "accuracy", value=0.4)),
            "accuracy: Input should be an object",
        ),
        (
            with_gears(at("gears", "fast", "accuracy", "overall", value=None)),
            "overall: Input should be a valid number",
        ),
        (with_gears(at("gears", "fast", "accuracy", "few", value=1.1)), "accuracy must lie"),
        (
            with_gears(at("gears", "fast", "accuracy", "all", value=1)),
            "accuracy.all: Unknown field",
        ),
        (at("schema_version", value="1"), "schema_version: Input should be a valid integer"),
        (at("shoe_size", value=43), "shoe_size: Unknown field"),
        (at("image", "depth", value=3), "image.depth: Unknown field"),
        (at("multiply_adds", "decoder", value=3), "multiply_adds.decoder: Unknown field"),
        (lambda document: document.pop("thresholds"), ": thresholds: Field required"),
        (lambda document: document["image"].pop("height"), "image.height: Field required"),
        (lambda document: document.pop("schema_version"), ": schema_version: Field required"),
        (at("class_names", value="apple"), "class_names: Input should be a valid array"),
        (at("class_names", 1, value=7), r"class_names\[1\]: Input should be a valid string"),
        (at("class_names", 1, value=""), r"class_names\[1\]: String should have at least 1"),
        (at("class_names", 1, value="\ud800"), "Invalid JSON: .* hex escape at line 1"),
        (at("class_names", value=["one"]), "at least two different names"),
        (at("class_names", 1, value="apple"), "class_names|class_counts"),
        (lambda document: document["class_counts"].pop(), "class_counts must hold 100 counts"),
        (at("class_counts", 0, value=-1), "class_counts must hold"),
        (at("class_counts", 0, value=2.5), r"class_counts\[0\]: Input should be a valid integer"),
        (at("image", value=[32, 32]), "image: Input should be an object"),
        (at("image", "height", value=0), "between 1 and 4096"),
        (at("image", "width", value=100_000), "between 1 and 4096"),
        (at("image", "height", value=8.0), "image.height: Input should be a valid integer"),
        (at("image", "height", value="8"), "image.height: Input should be a valid integer"),
        (at("schema_version", value=4.0), "schema_version: Input should be a valid integer"),
        (at("corrections", value=[[2**54]]), r"corrections\[0\]\[0\]: must not be larger than"),
        (at("image", "height", value=True), "image.height: Input should be a valid integer"),
        (at("image", "resize_shorter_side", value=1), "must not be smaller"),
        (at("image", "interpolation", value="nearest"), "interpolation must be one of"),
        (at("thresholds", 0, value=1.01), "threshold must lie between 0 and 1"),
        (at("thresholds", 0, value=-0.01), "threshold must lie between 0 and 1"),
        (at("thresholds", 0, value=HUGE), r"thresholds\[0\]: Input should be a finite number"),
        (
            at("thresholds", 0, value=float("nan")),
            r"thresholds\[0\]: Input should be a finite number",
        ),
        (
            at("thresholds", 0, value=float("inf")),
            r"thresholds\[0\]: Input should be a finite number",
        ),
        (at("thresholds", 0, value="0.5"), r"thresholds\[0\]: Input should be a valid number"),
        (at("thresholds", 0, value=False), r"thresholds\[0\]: Input should be a valid number"),
        (at("thresholds", value=[0.5]), "need 2 thresholds and routers"),
        (at("multiply_adds", "experts", value=[]), "experts must not be empty"),
        (at("multiply_adds", "experts", value=[5, 5]), "2 experts need 1 thresholds"),
        (at("multiply_adds", "experts", 0, value=0), "multiply-adds must be positive"),
        (at("multiply_adds", "backbone", value=-1), "multiply-adds must be positive"),
        (at("multiply_adds", "backbone", value=HUGE), "backbone: must not be larger than"),
        (at("multiply_adds", "routers", value=[1]), "thresholds and routers"),
        (at("corrections", value=[[0.0]]), "corrections must hold 3 rows of 100"),
        (at("corrections", value=None), "corrections: Input should be a valid array"),
        (at("evaluation", value=[]), "evaluation: Input should be an object"),
        (at("evaluation", "accuracy", value=float("nan")), "evaluation: Out of range float"),
        (at("provenance", value="me"), "provenance: Input should be an object"),
        (at("graphs", value=[]), "graphs: Input should be an object"),
        (
            at("graphs", "stage_1/1/model.onnx", value=None),
            "graphs.stage_1/1/model.onnx: Input should be",
        ),
        (at("graphs", "../../secret", value="00"), "right graphs: ../../secret"),
        (at("graphs", "/etc/passwd", value="00"), "right graphs: /etc/passwd"),
        (at("graphs", "stage_4/1/model.onnx", value="00"), "right graphs: stage_4/1/model.onnx"),
        (
            lambda document: document["graphs"].pop("stage_2/1/model.onnx"),
            "right graphs: stage_2/1/model.onnx",
        ),
    ],
)
def test_an_altered_manifest_is_refused(
    repository_copy: Path, alter: Change, sentence: str
) -> None:
    change(repository_copy, alter)
    with pytest.raises(ModelRepositoryError, match=sentence) as caught:
        load(repository_copy)
    assert str(written(repository_copy)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"schema_version": ' + b"9" * 10_000 + b"}",
        b'{"schema_version": 1}',
    ],
)
def test_what_is_no_manifest_is_refused(repository_copy: Path, content: bytes) -> None:
    written(repository_copy).write_bytes(content)
    with pytest.raises(ModelRepositoryError, match="manifest.json is not a valid manifest"):
        load(repository_copy)


def test_a_manifest_of_many_megabytes_is_not_read(repository_copy: Path) -> None:
    with written(repository_copy).open("r+b") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ModelRepositoryError, match="larger than any manifest"):
        load(repository_copy)


def test_a_manifest_that_is_a_folder_is_refused(repository_copy: Path) -> None:
    path = written(repository_copy)
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelRepositoryError, match="manifest.json can't be read"):
        load(repository_copy)


def test_a_version_that_is_not_there_is_named(repository: Path) -> None:
    with pytest.raises(ModelRepositoryError, match=r"ride/7/manifest.json can't be read"):
        load_manifest(repository, 7)


def test_a_graph_is_read_only_as_it_was_written(repository_copy: Path) -> None:
    version = latest_version(repository_copy)
    manifest = load_manifest(repository_copy, version)
    path = graph_path("stage_2", version)
    whole = (repository_copy / path).read_bytes()
    assert read_graph(repository_copy, manifest, path) == whole
    (repository_copy / path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelRepositoryError, match=re.escape(f"{path} was altered")):
        read_graph(repository_copy, manifest, path)
    (repository_copy / path).unlink()
    with pytest.raises(ModelRepositoryError, match=re.escape(f"{path} can't be read")):
        read_graph(repository_copy, manifest, path)
