"""Manifests that are not what they should be: each is refused, and the field named."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import ModelRepositoryError
from tests.serving.model.manifests import (
    GEAR,
    HUGE,
    Change,
    at,
    change,
    load,
    quantised,
    stops,
    with_gears,
    written,
)


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
