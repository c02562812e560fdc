"""What a version of a model says of itself: class names, image preparation, routing, costs.

`manifest.json` lies in the version folder of the model `ride` and travels with the graphs. Its
schema is described in docs/manifest.md; `serving.model.manifest_json` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.model.quantization import Quantization
from serving.model.shot_groups import Accuracy
from serving.model.strict_json import STRICT, JsonObject, Number, Whole

SCHEMA_VERSION = 4
MODEL_NAME = "ride"
IMAGE_MODEL_NAME = "ride_image"
"""The same model for encoded images: no folder of its own, but a name that clients know."""
SELF_ROUTING_MODEL_NAME = "ride_graph"
"""The same model as one ONNX graph, for runtimes that know nothing of routing."""
RULES_MODEL_NAME = "ride_graph_rules"
"""The same graph with a rule for each image among its inputs."""
INTERPOLATIONS = ("bilinear", "bicubic")
GEARS = ("fast", "balanced", "full")
PRECISIONS = ("fp32", "int8", "fp16")
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

    backbone: Whole
    experts: tuple[Whole, ...]
    routers: tuple[Whole, ...]

    def __post_init__(self) -> None:
        if not self.experts:
            raise ValueError("experts must not be empty")
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
    mean_multiply_adds: Number
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
class Stops:
    """Where images stopped, routed by the model's own thresholds.

    Attributes:
        images: how many they were.
        stopped_after: shares of them that took 1, 2, .. K experts.
    """

    images: Whole
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

    __pydantic_config__ = STRICT
    class_names: tuple[str, ...]
    class_counts: tuple[Whole, ...]
    image: ImageSpec
    thresholds: tuple[float, ...]
    multiply_adds: MultiplyAdds
    graphs: Mapping[str, str]
    gears: Mapping[str, Gear]
    corrections: tuple[tuple[Number, ...], ...]
    evaluation: JsonObject
    provenance: JsonObject
    precision: str
    quantization: Quantization | None
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

    @cached_property
    def prefix_corrections(self) -> NDArray[np.float32] | None:
        """`corrections` as fp32 [K, C], made once for all requests; None for none."""
        return np.array(self.corrections, dtype=np.float32) if self.corrections else None

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
