"""Reads `manifest.json`: JSON that anyone may have written -> a manifest, or what is wrong with it.

Standard library only, so that Triton's Python backend can use it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from serving.errors import ModelRepositoryError
from serving.model.json_fields import (
    Fields,
    anything,
    integer,
    mapping,
    nonempty,
    number,
    number_or_none,
    refuse_constant,
    text,
    tuple_of,
)
from serving.model.manifest import (
    SCHEMA_VERSION,
    Accuracy,
    Calibration,
    Gear,
    ImageSpec,
    Manifest,
    Measurement,
    MultiplyAdds,
    PairedDrop,
    Quantization,
    Stops,
    graph_models,
    graph_path,
    manifest_path,
)

_MAX_BYTES = 16 * 2**20


def load_manifest(repository: Path, version: int) -> Manifest:
    """Read and check a version's manifest.

    Raises:
        ModelRepositoryError: naming the file and what is wrong with it.
    """
    path = manifest_path(repository, version)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelRepositoryError(f"{path} is larger than any manifest")
        data = json.loads(path.read_bytes(), parse_constant=refuse_constant)
        manifest = parse_manifest(data)
    except OSError as error:
        raise ModelRepositoryError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelRepositoryError(f"{path} is not a valid manifest: {error}") from None
    expected = {graph_path(name, version) for name in graph_models(manifest.num_experts)}
    if set(manifest.graphs) != expected:
        wrong = sorted(expected.symmetric_difference(manifest.graphs))
        raise ModelRepositoryError(f"{path} does not list the right graphs: {', '.join(wrong)}")
    return manifest


def parse_manifest(data: object) -> Manifest:
    """Build a manifest from parsed JSON.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    fields = Fields(data, "the manifest")
    schema_version = fields.take("schema_version", integer)
    if 1 <= schema_version < SCHEMA_VERSION:
        raise ValueError(
            f"its schema_version is {schema_version}, from when a model was split into other "
            "graphs: export the run again with `ride export`"
        )
    if schema_version != SCHEMA_VERSION:
        raise ValueError(
            f"its schema_version is {schema_version}, and this server reads {SCHEMA_VERSION}"
        )
    manifest = Manifest(
        class_names=fields.take("class_names", tuple_of(text)),
        class_counts=fields.take("class_counts", tuple_of(integer)),
        image=_image(fields.take("image", anything)),
        thresholds=fields.take("thresholds", tuple_of(number)),
        multiply_adds=_multiply_adds(fields.take("multiply_adds", anything)),
        graphs=fields.take("graphs", _texts),
        gears=fields.take("gears", parse_gears),
        corrections=fields.take("corrections", tuple_of(tuple_of(number))),
        evaluation=fields.take("evaluation", mapping),
        provenance=fields.take("provenance", mapping),
        precision=fields.take("precision", text),
        quantization=fields.take("quantization", _quantization),
        stops=fields.take_if_there("stops", _stops),
    )
    fields.require_empty()
    return manifest


def parse_gears(data: object, name: str = "gears") -> Mapping[str, Gear]:
    """Build gears from parsed JSON, an object of them by their names.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    return {gear: _gear(fields, f"{name}.{gear}") for gear, fields in mapping(data, name).items()}


def _gear(data: object, name: str) -> Gear:
    fields = Fields(data, name)
    gear = Gear(
        thresholds=fields.take("thresholds", tuple_of(number)),
        mean_experts=fields.take("mean_experts", number),
        mean_multiply_adds=fields.take("mean_multiply_adds", number),
        accuracy=fields.take("accuracy", _accuracy),
        measured_on=fields.take("measured_on", text),
    )
    fields.require_empty()
    return gear


def _accuracy(data: object, name: str) -> Accuracy:
    fields = Fields(data, name)
    accuracy = Accuracy(
        overall=fields.take("overall", number),
        many=fields.take("many", number_or_none),
        medium=fields.take("medium", number_or_none),
        few=fields.take("few", number_or_none),
    )
    fields.require_empty()
    return accuracy


def _quantization(data: object, name: str) -> Quantization | None:
    if data is None:
        return None
    fields = Fields(data, name)
    quantization = Quantization(
        calibration=fields.take("calibration", _calibration),
        measured_on=fields.take("measured_on", text),
        images=fields.take("images", integer),
        routed=fields.take("routed", _paired_drop),
        all_experts=fields.take("all_experts", _paired_drop),
        max_drop=fields.take("max_drop", number),
        settings=fields.take("settings", _texts),
    )
    fields.require_empty()
    return quantization


def _calibration(data: object, name: str) -> Calibration | None:
    if data is None:
        return None
    fields = Fields(data, name)
    calibration = Calibration(fields.take("images", integer), fields.take("source", text))
    fields.require_empty()
    return calibration


def _paired_drop(data: object, name: str) -> PairedDrop:
    fields = Fields(data, name)
    drop = PairedDrop(
        before=fields.take("before", _measurement),
        after=fields.take("after", _measurement),
        drop=fields.take("drop", number),
        standard_error=fields.take("standard_error", number),
    )
    fields.require_empty()
    return drop


def _measurement(data: object, name: str) -> Measurement:
    fields = Fields(data, name)
    measurement = Measurement(
        fields.take("accuracy", _accuracy), fields.take("mean_experts", number)
    )
    fields.require_empty()
    return measurement


def _stops(data: object, name: str) -> Stops:
    fields = Fields(data, name)
    stops = Stops(
        images=fields.take("images", integer),
        stopped_after=fields.take("stopped_after", tuple_of(number)),
    )
    fields.require_empty()
    return stops


def _image(data: object) -> ImageSpec:
    fields = Fields(data, "image")
    spec = ImageSpec(
        height=fields.take("height", integer),
        width=fields.take("width", integer),
        resize_shorter_side=fields.take("resize_shorter_side", integer),
        interpolation=fields.take("interpolation", text),
    )
    fields.require_empty()
    return spec


def _multiply_adds(data: object) -> MultiplyAdds:
    fields = Fields(data, "multiply_adds")
    costs = MultiplyAdds(
        backbone=fields.take("backbone", integer),
        experts=fields.take("experts", nonempty(tuple_of(integer))),
        routers=fields.take("routers", tuple_of(integer)),
    )
    fields.require_empty()
    return costs


def _texts(value: object, name: str) -> Mapping[str, str]:
    return {key: text(item, f"{name} of {key}") for key, item in mapping(value, name).items()}
