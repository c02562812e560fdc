"""`ride export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    model_repository: Annotated[
        Path, typer.Argument(help="New folder, or a repository that gets a further version.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Check parity on test images from here instead of random ones."),
    ] = None,
) -> None:
    """Write a finished run as a model repository that ride serve and Triton read.

    Backbone, experts and routers become ONNX graphs with a manifest and checksums. Before it is
    published, the repository is loaded and compared with torch: logits within 1e-4, and the same
    experts for every image that is not within 1e-3 of a threshold; otherwise nothing is written.

    Example: ride export runs/first model_repository
    """
    from export.session import export_session  # torch is slow to import, --help is not

    export_session(run, model_repository, data=data, console=Console())
