"""Runs a stage's graph for a batch, by asking Triton for it (business logic scripting, BLS)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.errors import Overloaded
from serving.in_triton.device_rows import host_array, take_rows
from serving.model.repository import graph_model
from serving.model.routing import StageCall, StageOutput
from serving.model.stage_signature import StageSignature


class StageGraphs:
    """The graphs of a version, for one batch of images, uint8 [N, H, W, 3].

    Features stay where the graphs leave them: on a GPU, where there is one.
    """

    def __init__(
        self, images: NDArray[np.uint8], num_stages: int, version: int, gpu: int | None
    ) -> None:
        """`gpu` is the number of the device that this instance belongs to, if it does to one."""
        self._images = images
        self._num_stages = num_stages
        self._version = version
        self._memory = _preferred_memory(gpu)
        self._features: Any = None
        self.seconds = 0.0
        """What the last stage took, its wait for an instance of the graph included."""

    def run(self, call: StageCall) -> StageOutput:
        """Run a stage on some rows of the batch.

        Raises:
            Overloaded: if Triton can't run the graph now; it may be being unloaded.
        """
        start = time.perf_counter()
        signature = StageSignature.of(call.stage, self._num_stages)
        inputs = [self._input(name, call) for name in signature.inputs]
        outputs = self._execute(graph_model(call.stage), inputs, signature.routing_outputs)
        self._features = outputs.get("features", self._features)
        self.seconds = time.perf_counter() - start
        score = host_array(outputs["score"]).reshape(-1) if "score" in outputs else None
        return StageOutput(host_array(outputs["logits"]), score)

    def _input(self, name: str, call: StageCall) -> Any:
        if name == "image":
            return pb_utils.Tensor(name, self._images)
        if name == "features":
            return take_rows(name, self._features, call.rows, len(self._images))
        return pb_utils.Tensor(name, np.ascontiguousarray(call.prefix_sum))

    def _execute(self, model: str, inputs: list[Any], wanted: list[str]) -> dict[str, Any]:
        request = pb_utils.InferenceRequest(
            model_name=model,
            model_version=self._version,
            requested_output_names=wanted,
            inputs=inputs,
            preferred_memory=self._memory,
        )
        try:
            response = request.exec()
        except pb_utils.TritonModelException as error:
            raise _unavailable(model, str(error)) from error
        if response.has_error():
            raise _unavailable(model, response.error().message())
        return {name: pb_utils.get_output_tensor_by_name(response, name) for name in wanted}


def _preferred_memory(gpu: int | None) -> Any:
    if gpu is None:
        return pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
    return pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, gpu)


def _unavailable(model: str, reason: str) -> Overloaded:
    pb_utils.Logger.log_error(f"{model} failed: {reason}")
    return Overloaded(f"the model's graph {model} is not available; try again in a moment")
