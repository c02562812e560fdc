"""What is asked of a verification: the options of `ride verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME, SELF_ROUTING_MODEL_NAME
from serving.options import MOST_USED, argument, option
from verify.errors import VerificationError

REFERENCE = "embedded engine"
_OTHER = "Details"
MODELS = (MODEL_NAME, IMAGE_MODEL_NAME, SELF_ROUTING_MODEL_NAME)
"""Those that a server may be asked for."""


@dataclass(frozen=True)
class VerificationRequest:
    """What to compare, and where to write what was found besides the terminal.

    `command` is what was typed, for the report.
    """

    images: Annotated[
        Path,
        argument(
            "Folder of JPEG, PNG, WebP and AVIF files, searched with all folders in it; one image "
            "file; or a Parquet file with encoded images or paths of them, as ride score reads it."
        ),
    ]
    repository: Annotated[
        Path, option("Model repository, whose latest version is compared.", MOST_USED)
    ] = Path("model_repository")
    run: Annotated[
        Path | None,
        option(
            "Compare torch: folder of the run that the repository was exported from.", MOST_USED
        ),
    ] = None
    server: Annotated[
        str | None,
        option(
            "Compare a server of the Open Inference Protocol: its gRPC address.",
            MOST_USED,
            flag="--triton",
            metavar="HOST:PORT",
        ),
    ] = None
    models: Annotated[
        str,
        option(
            f"Models of the server that are asked, separated by commas: {', '.join(MODELS)}.",
            _OTHER,
        ),
    ] = f"{MODEL_NAME},{IMAGE_MODEL_NAME}"
    report: Annotated[
        Path | None, option("Also write what was found to a file, as Markdown.", MOST_USED)
    ] = None
    json: Annotated[
        Path | None, option("Also write what was found to a file, as JSON.", MOST_USED)
    ] = None
    column: Annotated[
        str | None,
        option(
            "Column of the Parquet file, as sample.img. (default: the only one with images)", _OTHER
        ),
    ] = None
    tolerance: Annotated[
        float, option("Most that the probability of a class may differ.", _OTHER, min=0, max=1)
    ] = 1e-4
    command: str = "ride verify"

    @property
    def model_names(self) -> list[str]:
        """Of the models that the server is asked for."""
        return [name.strip() for name in self.models.split(",") if name.strip()]

    def check(self) -> None:
        """Raise VerificationError if there is nothing to compare, or no folder to write into."""
        if self.run is None and self.server is None:
            raise VerificationError(
                f"name what to compare with the {REFERENCE}: a run by --run, a server by --triton, "
                "or both"
            )
        unknown = [name for name in self.model_names if name not in MODELS]
        if unknown or not self.model_names:
            raise VerificationError(
                f"--models takes some of {', '.join(MODELS)}, separated by commas, "
                f"not {self.models!r}"
            )
        for path in (self.report, self.json):
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise VerificationError(f"{path} must be a file, in a folder that exists")
