"""Where Triton runs a model, and how many instances of each part it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from export.errors import ExportError
from serving.options import option

TRITON = "Triton"


class Target(StrEnum):
    """What Triton runs the graphs on."""

    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


@dataclass(frozen=True)
class Placement:
    """What goes into every `config.pbtxt`. On a GPU each graph has one instance."""

    target: Annotated[
        Target,
        option(
            "What Triton runs the graphs on, as every config.pbtxt will say; ride serve has "
            "--provider instead.",
            TRITON,
        ),
    ] = Target.CPU
    instances: Annotated[
        int,
        option("Instances of each model that Triton keeps on a CPU: about one a core.", TRITON),
    ] = 2

    rules_as_inputs: Annotated[
        bool,
        option(
            "Also write ride_graph_rules: ride_graph with thresholds and max_experts of each image "
            "as inputs, so that Triton without Python takes them and still makes batches.",
            TRITON,
        ),
    ] = False

    def __post_init__(self) -> None:
        if not 1 <= self.instances <= 1_024:
            raise ExportError(f"instances must lie between 1 and 1024, not {self.instances}")


DEFAULT_PLACEMENT = Placement()
