"""What `ride export --quantize` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from export.errors import ExportError


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
