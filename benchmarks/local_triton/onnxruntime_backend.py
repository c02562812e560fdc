"""A Python-based Triton backend named `onnxruntime`: runs a model's `model.onnx`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_THREADS = "intra_op_thread_count"
"""The parameter that the backend in C++ has for this; 0 is one a core."""


class TritonPythonModel:
    """One session; all requests of a call run as one batch."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """The repository's config.pbtxt is complete."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph."""
        config = json.loads(args["model_config"])
        threads = config.get("parameters", {}).get(_THREADS, {}).get("string_value", "0")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = ort.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the graph once on all rows, for the outputs that any request wants."""
        wanted_by = [set(request.requested_output_names()) for request in requests]
        wanted = [name for name in self._outputs if any(name in names for names in wanted_by)]
        inputs = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._inputs
        ]
        batch = {name: _joined(x) for name, x in zip(self._inputs, inputs, strict=True)}
        outputs = dict(zip(wanted, self._session.run(wanted, batch), strict=True))
        ends = np.cumsum([len(rows) for rows in inputs[0]])
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(output[end - len(rows) : end]))
                    for name, output in outputs.items()
                    if name in names
                ]
            )
            for names, rows, end in zip(wanted_by, inputs[0], ends, strict=True)
        ]


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
