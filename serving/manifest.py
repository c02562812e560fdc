"""What a model repository says about its model; validated on load.

`manifest.json` lies in the version folder of the model `ride` and travels with the graphs: class
names, image preparation, routing policy, costs, provenance, and the SHA-256 of every graph. Its
schema is described in docs/manifest.md. Standard library only, so that Triton's Python
backend can read it too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from serving.errors import ModelRepositoryError

SCHEMA_VERSION = 2
_READ_VERSIONS = (1, 2)
MODEL_NAME = "ride"
IMAGE_MODEL_NAME = "ride_image"
"""The same model for encoded images: no folder of its own, but a name that clients know."""
FILE_NAME = "manifest.json"
GRAPH_FILE = "model.onnx"
INTERPOLATIONS = ("bilinear", "bicubic")
GEARS = ("fast", "balanced", "full")
_MAX_MANIFEST_BYTES = 16 * 2**20
_MAX_GRAPH_BYTES = 2 * 2**30
_MAX_INTEGER = 2**53
"""Up to here every whole number is a float too: counters and quotients stay exact."""

T = TypeVar("T")


@dataclass(frozen=True)
class ImageSpec:
    """How an image becomes the model's input: the evaluation transform of training.

    The shorter side is resized to `resize_shorter_side` pixels (with antialiasing), then the
    centre of `height` by `width` pixels is cut out.
    """

    height: int
    width: int
    resize_shorter_side: int
    interpolation: str

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.resize_shorter_side)
        if not all(1 <= size <= 4096 for size in sizes):
            raise ValueError("sizes must lie between 1 and 4096 pixels")
        if self.resize_shorter_side < max(self.height, self.width):
            raise ValueError("resize_shorter_side must not be smaller than height and width")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}")


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of one image: of the backbone, of each expert, of each router."""

    backbone: int
    experts: tuple[int, ...]
    routers: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.backbone < 0 or min(self.experts) <= 0 or min(self.routers, default=0) < 0:
            raise ValueError("multiply-adds must be positive")

    def spent(self, experts_used: int, routers_asked: int) -> int:
        """Of an image that took `experts_used` experts and asked `routers_asked` routers."""
        experts = sum(self.experts[:experts_used])
        return self.backbone + experts + sum(self.routers[:routers_asked])

    @property
    def all_experts(self) -> int:
        """Of the full ensemble, which asks no router."""
        return self.spent(len(self.experts), 0)


@dataclass(frozen=True)
class Accuracy:
    """Top-1, as a share; None for a shot group without classes."""

    overall: float
    many: float | None
    medium: float | None
    few: float | None

    def __post_init__(self) -> None:
        shares = (self.overall, self.many, self.medium, self.few)
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise ValueError("accuracy must lie between 0 and 1")


@dataclass(frozen=True)
class Gear:
    """A named trade of cost for accuracy: its thresholds, and what they gave when measured.

    Attributes:
        thresholds: of routers 1..K-1, in [0, 1].
        mean_experts: that an image took, from 1 to K.
        mean_multiply_adds: that an image took.
        accuracy: overall and per shot group.
        measured_on: the images, in words.
    """

    thresholds: tuple[float, ...]
    mean_experts: float
    mean_multiply_adds: float
    accuracy: Accuracy
    measured_on: str

    def __post_init__(self) -> None:
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("every threshold must lie between 0 and 1")
        if not 1 <= self.mean_experts <= len(self.thresholds) + 1:
            raise ValueError("mean_experts must lie between 1 and the number of experts")
        if self.mean_multiply_adds < 0:
            raise ValueError("mean_multiply_adds must not be negative")


@dataclass(frozen=True)
class Manifest:
    """One version of a model.

    Attributes:
        class_names: C names, in the order of the logits.
        class_counts: training images of each class; they define the shot groups.
        image: how images are prepared.
        thresholds: of routers 1..K-1, in [0, 1].
        gears: `fast`, `balanced` and `full`; empty if they were never chosen.
        corrections: per prefix, C numbers added to the mean logits; empty for none.
        multiply_adds: the cost of each part.
        evaluation: accuracy and cost as measured by `ride evaluate`; empty if never measured.
        provenance: data set, configuration, commit, seed, versions.
        graphs: SHA-256 of each graph, by its path in the repository.
    """

    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    image: ImageSpec
    thresholds: tuple[float, ...]
    multiply_adds: MultiplyAdds
    graphs: Mapping[str, str]
    gears: Mapping[str, Gear] = field(default_factory=dict)
    corrections: tuple[tuple[float, ...], ...] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        classes, experts = len(self.class_names), len(self.multiply_adds.experts)
        if classes < 2 or len(set(self.class_names)) != classes:
            raise ValueError("class_names must hold at least two different names")
        if len(self.class_counts) != classes or min(self.class_counts) < 0:
            raise ValueError(f"class_counts must hold {classes} counts, one a class")
        if len(self.thresholds) != experts - 1 or len(self.multiply_adds.routers) != experts - 1:
            raise ValueError(f"{experts} experts need {experts - 1} thresholds and routers")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError("every threshold must lie between 0 and 1")
        if self.gears and set(self.gears) != set(GEARS):
            raise ValueError(f"gears must be {', '.join(GEARS)}, or none at all")
        if any(len(gear.thresholds) != experts - 1 for gear in self.gears.values()):
            raise ValueError(f"{experts} experts need {experts - 1} thresholds in every gear")
        if self.corrections and [len(row) for row in self.corrections] != [classes] * experts:
            raise ValueError(f"corrections must hold {experts} rows of {classes} numbers")

    @property
    def num_experts(self) -> int:
        """K."""
        return len(self.multiply_adds.experts)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"


def graph_models(num_experts: int) -> list[str]:
    """Names of the graphs' models, in the order in which an image meets them."""
    names = ["backbone"]
    for expert in range(1, num_experts + 1):
        names.append(f"expert_{expert}")
        if expert < num_experts:
            names.append(f"router_{expert}")
    return names


def graph_path(model: str, version: int) -> str:
    """A graph's path in the repository, with forward slashes."""
    return f"{model}/{version}/{GRAPH_FILE}"


def manifest_path(repository: Path, version: int) -> Path:
    """Where a version's manifest lies."""
    return repository / MODEL_NAME / str(version) / FILE_NAME


def versions(repository: Path) -> list[int]:
    """Whole versions in a repository, oldest first: those that have a manifest."""
    found = (repository / MODEL_NAME).glob(f"*/{FILE_NAME}")
    names = [path.parent.name for path in found]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def latest_version(repository: Path) -> int:
    """The version to serve.

    Raises:
        ModelRepositoryError: if there is no repository here, or no whole version in it.
    """
    if not repository.is_dir():
        raise ModelRepositoryError(f"there is no model repository {repository}")
    found = versions(repository)
    if not found:
        raise ModelRepositoryError(
            f"{repository} holds no model: there is no {MODEL_NAME}/<version>/{FILE_NAME}; "
            "ride export writes one"
        )
    return found[-1]


def load_manifest(repository: Path, version: int) -> Manifest:
    """Read and check a version's manifest.

    Raises:
        ModelRepositoryError: naming the file and what is wrong with it.
    """
    path = manifest_path(repository, version)
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ModelRepositoryError(f"{path} is larger than any manifest")
        data = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
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


def read_graph(repository: Path, manifest: Manifest, path: str) -> bytes:
    """A graph's bytes, which are what the manifest says they are.

    Raises:
        ModelRepositoryError: if the file is missing or was altered.
    """
    try:
        if (repository / path).stat().st_size > _MAX_GRAPH_BYTES:
            raise ModelRepositoryError(f"{repository / path} is larger than 2 GiB")
        content = (repository / path).read_bytes()
    except OSError as error:
        raise ModelRepositoryError(f"{repository / path} can't be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != manifest.graphs[path]:
        raise ModelRepositoryError(
            f"{repository / path} was altered: its SHA-256 is not the one in the manifest"
        )
    return content


def parse_manifest(data: object) -> Manifest:
    """Build a manifest from parsed JSON.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    fields = _Fields(data, "the manifest")
    schema_version = fields.take("schema_version", _integer)
    if schema_version not in _READ_VERSIONS:
        known = " and ".join(map(str, _READ_VERSIONS))
        raise ValueError(f"its schema_version is {schema_version}, and this server reads {known}")
    manifest = Manifest(
        class_names=fields.take("class_names", _tuple_of(_text)),
        class_counts=fields.take("class_counts", _tuple_of(_integer)),
        image=_image(fields.take("image", _anything)),
        thresholds=fields.take("thresholds", _tuple_of(_number)),
        multiply_adds=_multiply_adds(fields.take("multiply_adds", _anything)),
        graphs=fields.take("graphs", _digests),
        gears=fields.take("gears", parse_gears) if schema_version > 1 else {},
        corrections=fields.take("corrections", _tuple_of(_tuple_of(_number))),
        evaluation=fields.take("evaluation", _mapping),
        provenance=fields.take("provenance", _mapping),
    )
    fields.require_empty()
    return manifest


def parse_gears(data: object, name: str = "gears") -> Mapping[str, Gear]:
    """Build gears from parsed JSON, an object of them by their names.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    return {gear: _gear(fields, f"{name}.{gear}") for gear, fields in _mapping(data, name).items()}


def _gear(data: object, name: str) -> Gear:
    fields = _Fields(data, name)
    gear = Gear(
        thresholds=fields.take("thresholds", _tuple_of(_number)),
        mean_experts=fields.take("mean_experts", _number),
        mean_multiply_adds=fields.take("mean_multiply_adds", _number),
        accuracy=fields.take("accuracy", _accuracy),
        measured_on=fields.take("measured_on", _text),
    )
    fields.require_empty()
    return gear


def _accuracy(data: object, name: str) -> Accuracy:
    fields = _Fields(data, name)
    accuracy = Accuracy(
        overall=fields.take("overall", _number),
        many=fields.take("many", _number_or_none),
        medium=fields.take("medium", _number_or_none),
        few=fields.take("few", _number_or_none),
    )
    fields.require_empty()
    return accuracy


def _image(data: object) -> ImageSpec:
    fields = _Fields(data, "image")
    spec = ImageSpec(
        height=fields.take("height", _integer),
        width=fields.take("width", _integer),
        resize_shorter_side=fields.take("resize_shorter_side", _integer),
        interpolation=fields.take("interpolation", _text),
    )
    fields.require_empty()
    return spec


def _multiply_adds(data: object) -> MultiplyAdds:
    fields = _Fields(data, "multiply_adds")
    costs = MultiplyAdds(
        backbone=fields.take("backbone", _integer),
        experts=fields.take("experts", _nonempty(_tuple_of(_integer))),
        routers=fields.take("routers", _tuple_of(_integer)),
    )
    fields.require_empty()
    return costs


class _Fields:
    """A JSON object whose fields are taken out one by one, so that what is left is unknown."""

    def __init__(self, data: object, name: str) -> None:
        self._name = name
        self._left = dict(_mapping(data, name))

    def take(self, key: str, convert: Callable[[object, str], T]) -> T:
        if key not in self._left:
            raise ValueError(f"{self._name} has no field {key!r}")
        return convert(self._left.pop(key), key)

    def require_empty(self) -> None:
        if self._left:
            unknown = ", ".join(sorted(self._left))
            raise ValueError(f"{self._name} has unknown fields: {unknown}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")


def _anything(value: object, _: str) -> object:
    return value


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a character") from None
    return value


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number")
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"{name} is larger than 2^53")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, int):
        return float(_integer(value, name))
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number")
    return value


def _number_or_none(value: object, name: str) -> float | None:
    return None if value is None else _number(value, name)


def _digests(value: object, name: str) -> Mapping[str, str]:
    return {
        path: _text(digest, f"{name} of {path}") for path, digest in _mapping(value, name).items()
    }


def _tuple_of(convert: Callable[[object, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    def convert_all(value: object, name: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list")
        return tuple(convert(item, f"{name}[{i}]") for i, item in enumerate(value))

    return convert_all


def _nonempty(
    convert: Callable[[object, str], tuple[T, ...]],
) -> Callable[[object, str], tuple[T, ...]]:
    def convert_nonempty(value: object, name: str) -> tuple[T, ...]:
        converted = convert(value, name)
        if not converted:
            raise ValueError(f"{name} must not be empty")
        return converted

    return convert_nonempty
