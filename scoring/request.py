"""What is asked of a scoring: the options of `ride score`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from scoring.errors import OutputError, ScoringError
from scoring.records import LIMITS
from serving.engine.cores import usable_cores
from serving.engine.provider import Provider
from serving.images.accepted import USUAL, AcceptedFormats
from serving.images.decode import ImageLimits
from serving.options import MOST_USED, argument, option

if TYPE_CHECKING:  # slow to import, and --help is not
    from serving.engine.graphs import Engine
    from serving.model.routing import RoutingRule

_INPUTS = "Inputs"
_ROUTING = "Routing"
_OUTPUT = "Output"
RUNTIME = "Runtime"

_BATCH_ON_CPU = 64
_BATCH_ON_ACCELERATOR = 256


@dataclass(frozen=True)
class Routing:
    """How far images go, as it was asked for; at most one of the four but `max_experts`."""

    quality: Annotated[
        str | None, option("fast, balanced or full, where the model has these gears.", _ROUTING)
    ] = None
    threshold: Annotated[
        float | None,
        option("Go on where the router's score is above this, between 0 and 1.", _ROUTING),
    ] = None
    max_experts: Annotated[int | None, option("Most experts that an image may take.", _ROUTING)] = (
        None
    )
    budget: Annotated[
        float | None,
        option(
            "Experts that images may take on average, such as 1.5: thresholds are set on a sample "
            "of 2,048 of these images.",
            MOST_USED,
            metavar="MEAN_EXPERTS",
        ),
    ] = None

    def __post_init__(self) -> None:
        given = [self.quality, self.threshold, self.budget]
        if sum(each is not None for each in given) > 1:
            raise ScoringError("give one of --quality, --threshold and --budget")
        if self.budget is not None and self.max_experts is not None:
            raise ScoringError("--budget chooses how many experts images take: no --max-experts")

    def rule(self, engine: Engine) -> RoutingRule:
        """What it means for a model; for a budget, where the search for thresholds begins.

        Raises:
            InvalidRequest: if one is out of range.
        """
        return engine.rule(self.max_experts, self.threshold, self.quality)


@dataclass(frozen=True)
class KeptFields:
    """What is kept of an answer; probabilities in the model's order of classes."""

    top_k: Annotated[int, option("Labels to keep of each image.", _OUTPUT)] = 5
    embeddings: Annotated[
        bool, option("Keep the embedding of the last expert that ran.", _OUTPUT)
    ] = False
    all_probabilities: Annotated[bool, option("Keep the probability of every class.", _OUTPUT)] = (
        False
    )

    def bytes_a_row(self, num_classes: int) -> int:
        """About what a row takes until it is written."""
        per_class = 4 * num_classes if self.all_probabilities else 0
        embedding = 8192 if self.embeddings else 0
        return 256 + 8 * self.top_k + per_class + embedding


@dataclass(frozen=True)
class RayCluster:
    """Where Ray's workers run.

    Attributes:
        address: of a running cluster: `auto` or HOST:PORT; None for a cluster of this machine
            alone, for as long as the run takes.
        actors: workers; None for one a node, or one a GPU.
    """

    address: str | None = None
    actors: int | None = None


def _folder(typed: str) -> Path:
    if "://" in typed:
        raise OutputError(f"--output must be a folder of this machine, and {typed} is a URL")
    return Path(typed)


@dataclass(frozen=True)
class ScoringRequest:
    """What to score, with what, and where to.

    `ray` is where Ray scores; None to score in this process.
    """

    inputs: Annotated[
        tuple[str, ...],
        argument(
            "Folders and globs of images, Parquet files of images or paths, WebDataset tar files, "
            "CSV, TSV or text lists of paths; paths, or URLs of fsspec (s3://, gs://, https://).",
            kind=list[str],
            read=tuple,
            metavar="INPUT",
        ),
    ]
    output: Annotated[
        Path,
        option(
            "Folder for the Parquet parts; the same command goes on there.",
            MOST_USED,
            kind=str,
            read=_folder,
        ),
    ]
    repository: Annotated[
        Path, option("Model repository, as ride export writes it.", MOST_USED, flag="--model")
    ] = Path("model_repository")
    kept: KeptFields = KeptFields()
    column: Annotated[
        str | None,
        option(
            "Column of the images or paths in Parquet (or a field: sample.img), of the paths in "
            "CSV and TSV, there also by its number from 1; ending of the images in tar files. "
            "Found by itself where there is one.",
            _INPUTS,
        ),
    ] = None
    labels: Annotated[
        str | None,
        option(
            "Column of the true labels, names or numbers of classes, to report accuracy; their "
            "ending in tar files; for image files 'folder', the names of their folders.",
            MOST_USED,
            metavar="COLUMN",
        ),
    ] = None
    accepted: AcceptedFormats = USUAL
    routing: Routing = Routing()
    part_rows: Annotated[
        int, option("Rows of a part; what a kill loses is a few of them.", _OUTPUT, min=1)
    ] = 5000
    provider: Annotated[Provider, option("Where graphs run, in ONNX Runtime's terms.", RUNTIME)] = (
        Provider.CPU
    )
    workers: Annotated[
        int,
        option(
            "Threads that decode and infer; 0 takes one for each core that it may use.",
            RUNTIME,
            min=0,
        ),
    ] = 0
    server: Annotated[
        str | None,
        option(
            "Have a server run the model: the gRPC address of a Triton that serves ride_graph (and "
            "ride_graph_rules, for thresholds other than the model's own), or of ride serve.",
            RUNTIME,
            metavar="HOST:PORT",
        ),
    ] = None
    batch_size: Annotated[
        int | None, option("Images that a graph runs on at once.", RUNTIME, min=1, max=4096)
    ] = None
    resume: Annotated[
        bool, option("Go on although input files were written anew meanwhile.", _OUTPUT)
    ] = False
    overwrite: Annotated[bool, option("Remove what another run left in the folder.", _OUTPUT)] = (
        False
    )
    ray: RayCluster | None = None

    def __post_init__(self) -> None:
        if self.server is None:
            return
        if "://" in self.server or ":" not in self.server:
            raise ScoringError(f"--server takes HOST:PORT, as localhost:8001, not {self.server!r}")
        if self.kept.embeddings:
            raise ScoringError("a server answers no embeddings: give one of --server, --embeddings")

    @property
    def limits(self) -> ImageLimits:
        """Which images are decoded."""
        return replace(LIMITS, formats=self.accepted.formats)

    @property
    def threads(self) -> int:
        """Workers, resolved."""
        return self.workers or usable_cores()

    @property
    def rows_of_a_batch(self) -> int:
        """The batch size, resolved."""
        on_cpu = self.provider is Provider.CPU
        return self.batch_size or (_BATCH_ON_CPU if on_cpu else _BATCH_ON_ACCELERATOR)
