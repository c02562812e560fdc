"""What `ride export --quantize` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from export.errors import ExportError
from serving.options import MOST_USED, option
from training.errors import ConfigError

_MAX_DROP = 0.5


class QuantizedPrecision(StrEnum):
    """What graphs can be quantised to."""

    INT8 = "int8"
    FP16 = "fp16"


@dataclass(frozen=True)
class QuantizationRequest:
    """What is to be made, and how many points of routed accuracy it may cost: `max_drop`."""

    precision: QuantizedPrecision
    max_drop: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 100:
            raise ExportError(
                f"the accuracy drop must lie between 0 and 100 points, not {self.max_drop:g}"
            )


@dataclass(frozen=True)
class QuantizationOptions:
    """The same as it is typed."""

    quantize: Annotated[
        QuantizedPrecision | None,
        option("int8 for CPUs, fp16 for GPUs. (default: fp32 as it was trained)", MOST_USED),
    ] = None
    max_accuracy_drop: Annotated[
        float | None,
        option(
            "Points of routed accuracy that --quantize may lose before it is refused. "
            f"(default: {_MAX_DROP})",
            MOST_USED,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.quantize is None and self.max_accuracy_drop is not None:
            raise ConfigError("--max-accuracy-drop belongs to --quantize")

    @property
    def request(self) -> QuantizationRequest | None:
        """What it asks for, if anything."""
        if self.quantize is None:
            return None
        given = self.max_accuracy_drop
        return QuantizationRequest(self.quantize, _MAX_DROP if given is None else given)
