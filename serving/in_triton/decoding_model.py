"""The model `ride_decoding`: encoded images to prepared ones, as the embedded server does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.errors import InvalidRequest, RequestTooLarge, RideError
from serving.images.base64_text import image_file
from serving.images.decode import ImageLimits, decode_image
from serving.in_triton import MAX_BATCH_SIZE
from serving.in_triton.counters import TritonMetrics
from serving.in_triton.requests import error_response
from serving.metrics import definitions as define
from serving.model.manifest import ImageSpec
from serving.model.manifest_json import load_manifest


class DecodingModel:
    """Triton's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read how images are prepared; Triton reports what it raises."""
        repository = Path(args["model_repository"]).parent  # Triton names the model's own folder
        self._spec = load_manifest(repository, int(args["model_version"])).image
        self._limits = ImageLimits()
        self._metrics = TritonMetrics()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode each request's images; what is wrong with one is its own error."""
        responses = [_response(request, self._spec, self._limits) for request in requests]
        if failed := sum(response.has_error() for response in responses):
            # What is right goes on to `ride`, which counts it.
            self._metrics.count(define.REQUESTS, failed, "triton", "ERROR")
        return responses


def _response(request: Any, spec: ImageSpec, limits: ImageLimits) -> Any:
    try:
        files = pb_utils.get_input_tensor_by_name(request, "image_bytes").as_numpy()
        image = pb_utils.Tensor("image", _decoded(files.tolist(), spec, limits))
    except Exception as error:  # noqa: BLE001 the requests beside it must be answered
        return error_response(error)
    return pb_utils.InferenceResponse([image])


def _decoded(files: list[bytes], spec: ImageSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """All images, uint8 [N, H, W, 3], or an error that names the first bad row."""
    if not files:
        raise InvalidRequest("the request holds no image")
    if len(files) > MAX_BATCH_SIZE:
        raise RequestTooLarge(f"a request may hold {MAX_BATCH_SIZE} images, not {len(files)}")
    images = np.empty((len(files), spec.height, spec.width, 3), dtype=np.uint8)
    for row, file in enumerate(files):
        try:
            images[row] = decode_image(image_file(file), spec, limits)
        except RideError as error:
            raise type(error)(f"row {row}: {error}") from error
    return images
