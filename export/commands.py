"""`ride export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console

from export.placement import Placement
from export.quantization_request import QuantizationOptions
from serving.options import MOST_USED, argument, option, with_options


@with_options()
def export(
    run: Annotated[Path, argument("Folder of a finished run.")],
    model_repository: Annotated[
        Path, argument("New folder, or a repository that gets a further version.")
    ],
    quantization: QuantizationOptions,
    placement: Placement,
    data: Annotated[
        Path | None,
        option(
            "Folder of the data set: check parity on its test images instead of random ones. "
            "--quantize needs it.",
            MOST_USED,
        ),
    ] = None,
) -> None:
    """Write a finished run as a model repository that ride serve and Triton read.

    Backbone, experts and routers become ONNX graphs with a manifest and checksums. Before it is
    published, the repository is loaded and compared with torch: logits within 1e-4, and the same
    experts for every image that is not within 1e-3 of a threshold; otherwise nothing is written.

    With --quantize the graphs are then made smaller. int8 is calibrated on 512 images that neither
    trained nor test the model; the accuracy before and after, on the test images, goes into the
    manifest, and an export that loses more than --max-accuracy-drop is refused.

    Stages and routing are then compiled into one more graph, `ride_graph`, which answers by itself,
    early exit included, in any ONNX runtime; it is compared with the stages on the same images.

    What Triton needs is written too: configurations, warm-up requests, and the models `ride` and
    `ride_image` in front of the graphs. Configurations that are there already are left as they
    are, so --target and --instances count for a new repository.

    Example: ride export runs/first model_repository

    Example: ride export runs/first gpu_repository --target tensorrt

    Example: ride export runs/first model_repository --quantize int8 --data cifar100/
    """
    from export.session import export_session  # torch is slow to import, --help is not

    export_session(
        run,
        model_repository,
        data=data,
        quantize=quantization.request,
        placement=placement,
        console=Console(),
    )
