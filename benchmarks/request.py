"""What is asked of `ride bench`: its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from serving.options import MOST_USED, argument, option

_SECTIONS = "What is measured"
_LENGTH = "For how long"

QUICK_EVERY = 4


@dataclass(frozen=True)
class BenchRequest:
    """What to measure, for how long, and where to write it."""

    repository: Annotated[
        Path, argument("Model repository to serve.", metavar="MODEL_REPOSITORY")
    ] = Path("model_repository")
    quick: Annotated[
        bool,
        option(
            "About two minutes: a quarter of the images, fewer clients, no other servers, no "
            "growth.",
            MOST_USED,
        ),
    ] = False
    output: Annotated[
        Path, option("The page to write; figures go into a .json beside it.", MOST_USED)
    ] = Path("docs/benchmarks.md")
    servers: Annotated[
        str | None,
        option(
            "Servers to compare with, separated by commas: triton-bls, triton-self-routing, "
            "triton-one-graph, litserve, "
            "bentoml, ray-serve, mlserver, fastapi-torch; all or none.",
            MOST_USED,
        ),
    ] = None
    only: Annotated[
        list[str] | None,
        option(
            "Measure this section again and keep the others' figures: raw, this-server, load, "
            "memory, growth, or a server's name. May be given more than once.",
            MOST_USED,
        ),
    ] = None
    resume: Annotated[
        bool, option("Leave out sections that the output's JSON already has.", MOST_USED)
    ] = False
    growth: Annotated[
        bool | None,
        option(
            "Also measure how cost grows with image size, batch and clients; needs PyTorch. The "
            "default unless quick.",
            _SECTIONS,
            negatable=True,
        ),
    ] = None
    int8: Annotated[
        Path | None,
        option(
            "A model repository that ride export --quantize int8 wrote of the same model: measure "
            "it too, in bare ONNX Runtime and as this server serves it.",
            _SECTIONS,
        ),
    ] = None
    objective_ms: Annotated[
        float, option("Time to an answer that counts as good under overload.", _SECTIONS, min=1)
    ] = 100.0
    duration: Annotated[
        float | None,
        option(
            "Seconds for each point of a table, about; 10, or 3 if quick.",
            _LENGTH,
            min=0.1,
            max=3600,
        ),
    ] = None
    memory_requests: Annotated[
        int | None,
        option(
            "Requests of the memory test; 200,000, or 2,000 if quick.",
            _LENGTH,
            min=1,
            max=10_000_000,
        ),
    ] = None

    @property
    def every(self) -> int:
        """Every n-th of the test images is sent."""
        return QUICK_EVERY if self.quick else 1

    @property
    def plan(self) -> dict[str, Any]:
        """Settings of a `Plan` that are known without the images."""
        return {
            "repository": self.repository,
            "every": self.every,
            "duration_s": self.duration or (3.0 if self.quick else 10.0),
            "clients": (1, 16) if self.quick else (1, 16, 64),
            "objective_ms": self.objective_ms,
            "memory_requests": self.memory_requests or (2_000 if self.quick else 200_000),
            "int8": self.int8,
        }
