"""The model `ride` inside Triton: drives serving/routing.py, asks Triton for every graph (BLS)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.manifest import load_manifest
from serving.routing import (
    ExpertCall,
    ExpertOutput,
    Float,
    Routed,
    RouterCall,
    RoutingRule,
    drive,
    route,
)


class TritonPythonModel:
    """Takes a list of requests, routes all their images as one batch, and splits the answers."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the manifest of this version."""
        repository = Path(args["model_repository"])
        # Triton names the model's folder, or the repository around it.
        root = repository.parent if repository.name == "ride" else repository
        self._manifest = load_manifest(root, int(args["model_version"]))
        corrections = self._manifest.corrections
        self._rule = RoutingRule(
            self._manifest.thresholds,
            self._manifest.num_experts,
            np.array(corrections, np.float32) if corrections else None,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        images = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests
        ]
        try:
            routed = self._classify(np.concatenate(images))
        except pb_utils.TritonModelException as error:
            failure = pb_utils.TritonError(str(error))
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        ends = np.cumsum([len(image) for image in images])
        return [
            _response(routed, slice(end - len(image), end))
            for image, end in zip(images, ends, strict=True)
        ]

    def _classify(self, images: NDArray[np.uint8]) -> Routed:
        (features,) = _run("backbone", ["features"], {"image": images})

        def run_expert(call: ExpertCall) -> ExpertOutput:
            inputs = {"features": features[call.rows]}
            return ExpertOutput(*_run(f"expert_{call.expert}", ["logits", "embedding"], inputs))

        def run_router(call: RouterCall) -> Float:
            inputs = {"embedding": call.embedding, "prefix_logits": call.prefix_logits}
            (score,) = _run(f"router_{call.router}", ["score"], inputs)
            return score.reshape(-1)

        routing = route(len(images), self._manifest.num_classes, self._rule)
        return drive(routing, run_expert, run_router)


def _run(model: str, outputs: list[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=outputs,
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(x)) for name, x in inputs.items()],
        # Arrays, not device memory: what numpy can read.
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs]


def _response(routed: Routed, rows: slice) -> Any:
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("probabilities", routed.probabilities[rows]),
            pb_utils.Tensor("experts_used", routed.experts_used[rows, np.newaxis]),
            pb_utils.Tensor("router_scores", routed.router_scores[rows]),
        ]
    )
