"""What a model repository says about its model, and where its files lie.

`manifest.json` lies in the version folder of the model `ride` and travels with the graphs: class
names, image preparation, routing policy, costs, provenance, and the SHA-256 of every graph. Its
schema is described in docs/manifest.md. Standard library only, so that Triton's Python
backend can read it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import ModelRepositoryError

SCHEMA_VERSION = 4
MODEL_NAME = "ride"
IMAGE_MODEL_NAME = "ride_image"
"""The same model for encoded images: no folder of its own, but a name that clients know."""
FILE_NAME = "manifest.json"
GRAPH_FILE = "model.onnx"
INTERPOLATIONS = ("bilinear", "bicubic")
GEARS = ("fast", "balanced", "full")
PRECISIONS = ("fp32", "int8", "fp16")
_MAX_GRAPH_BYTES = 2 * 2**30
_ROUNDING = 1e-9
_SHARES_ROUNDED = 1e-3


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
class Measurement:
    """What a way of using the model gave on some images: accuracy and experts of an image."""

    accuracy: Accuracy
    mean_experts: float

    def __post_init__(self) -> None:
        if self.mean_experts < 1:
            raise ValueError("mean_experts must be at least 1")


@dataclass(frozen=True)
class PairedDrop:
    """What quantisation did to one way of using the model, on the same images before and after.

    Attributes:
        before: with the fp32 graphs.
        after: with the quantised graphs.
        drop: overall accuracy that was lost, as a share; negative where some was gained.
        standard_error: of the drop, from the differences image by image.
    """

    before: Measurement
    after: Measurement
    drop: float
    standard_error: float

    def __post_init__(self) -> None:
        lost = self.before.accuracy.overall - self.after.accuracy.overall
        if abs(self.drop - lost) > _ROUNDING:
            raise ValueError("drop must be the accuracy before less the accuracy after")
        if self.standard_error < 0:
            raise ValueError("standard_error must not be negative")


@dataclass(frozen=True)
class Calibration:
    """The images that gave the ranges of the activations: how many, and where from, in words."""

    images: int
    source: str

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("calibration needs at least one image")


@dataclass(frozen=True)
class Quantization:
    """How graphs of fewer bits were made of fp32 ones, and what that did to the answers.

    Attributes:
        calibration: None for a precision that needs none.
        measured_on: the images of what follows, in words; never those of the calibration.
        images: how many they are.
        routed: with the manifest's thresholds, which stay those of fp32.
        all_experts: with every expert on every image.
        max_drop: the drop of `routed`, as a share, above which there would be no such export.
        settings: how, by the setting's name.
    """

    calibration: Calibration | None
    measured_on: str
    images: int
    routed: PairedDrop
    all_experts: PairedDrop
    max_drop: float
    settings: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("images must be at least 1")
        if self.routed.drop > self.max_drop:
            raise ValueError("the drop of routed must not be above max_drop")


@dataclass(frozen=True)
class Stops:
    """Where images stopped, routed by the model's own thresholds.

    Attributes:
        images: how many they were.
        stopped_after: shares of them that took 1, 2, .. K experts.
    """

    images: int
    stopped_after: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError("images must be at least 1")
        if not all(0 <= share <= 1 for share in self.stopped_after):
            raise ValueError("every share of stopped_after must lie between 0 and 1")
        if abs(sum(self.stopped_after) - 1) > _SHARES_ROUNDED:
            raise ValueError("the shares of stopped_after must add up to 1")


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
        precision: of the graphs' inner numbers; inputs and outputs are the same in each.
        quantization: how that precision was reached and what it costs; None for fp32.
        graphs: SHA-256 of each graph, by its path in the repository.
        stops: where images stopped when the thresholds were chosen; None if only `evaluation`
            can tell.
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
    precision: str = "fp32"
    quantization: Quantization | None = None
    stops: Stops | None = None
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
        if self.stops is not None and len(self.stops.stopped_after) != experts:
            raise ValueError(f"stops.stopped_after must hold {experts} shares, one an expert")
        self._check_precision()

    def _check_precision(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}")
        if (self.quantization is None) != (self.precision == "fp32"):
            raise ValueError("quantization must be an object for int8 and fp16, null for fp32")
        if self.quantization is None:
            return
        for drop in (self.quantization.routed, self.quantization.all_experts):
            if max(drop.before.mean_experts, drop.after.mean_experts) > self.num_experts:
                raise ValueError("mean_experts must lie between 1 and the number of experts")

    @property
    def num_experts(self) -> int:
        """K."""
        return len(self.multiply_adds.experts)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def expected_stops(self) -> Stops | None:
        """Where images stop, as far as the manifest tells for the thresholds that it has."""
        return self.stops or self._evaluated_stops()

    def _evaluated_stops(self) -> Stops | None:
        """`evaluation` is what its writer made of it, and may be of other thresholds."""
        found = self.evaluation
        try:
            if tuple(found["thresholds"]) != self.thresholds:
                return None
            stops = Stops(int(found["images"]), tuple(map(float, found["routed"]["stopped_after"])))
        except (KeyError, TypeError, ValueError):
            return None
        return stops if len(stops.stopped_after) == self.num_experts else None

    def to_json(self) -> str:
        """The text of `manifest.json`; optional fields only where they say something."""
        fields = asdict(self)
        if self.stops is None:
            del fields["stops"]
        return json.dumps(fields, indent=2) + "\n"


def graph_model(stage: int) -> str:
    """The name of a stage's graph (from 1) as a model."""
    return f"stage_{stage}"


def graph_models(num_experts: int) -> list[str]:
    """Names of the graphs' models, in the order in which an image meets them."""
    return [graph_model(stage) for stage in range(1, num_experts + 1)]


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
