"""Where Triton runs a model, and how many instances of each part it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from export.errors import ExportError


class Target(StrEnum):
    """What Triton runs the graphs on."""

    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


@dataclass(frozen=True)
class Placement:
    """What goes into every `config.pbtxt`.

    Attributes:
        target: where graphs run.
        instances: of each graph and of each Python model on a CPU; about one a core. On a GPU each
            graph has one instance.
    """

    target: Target = Target.CPU
    instances: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.instances <= 1_024:
            raise ExportError(f"instances must lie between 1 and 1024, not {self.instances}")


DEFAULT_PLACEMENT = Placement()
