"""All experts as one ONNX graph: image -> mean of all logits, corrected -> probabilities.

The baseline without routing: what one would serve if every image took every expert. It is made of
the repository's own graphs, so the weights are the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
from onnx import TensorProto, compose, helper, numpy_helper

from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models, graph_path

INPUT, OUTPUT = "image", "probabilities"
_SOURCES = {"features": "features", "prefix_sum": "logits"}
"""Without its router, a stage looks at no more of the sum than how many rows it has."""


def merge_experts(repository: Path, version: int) -> onnx.ModelProto:
    """Merge the experts of all stages of a model version, without its routers."""
    manifest = load_manifest(repository, version)
    first, *others = graph_models(manifest.num_experts)
    passed_on = ["features", "logits"] if others else ["logits"]
    merged = _without_router(repository, first, version, passed_on)
    logits = ["logits"]
    for name in others:
        part = _without_router(repository, name, version, ["logits"])
        inputs = [value.name for value in part.graph.input]
        merged = compose.merge_models(
            merged,
            compose.add_prefix(part, f"{name}_"),
            io_map=[(_SOURCES[each], f"{name}_{each}") for each in inputs],
            outputs=["features", *logits, f"{name}_logits"],
        )
        logits.append(f"{name}_logits")
    graph = merged.graph
    graph.node.append(helper.make_node("Mean", logits, ["mean"]))
    estimate = "mean"
    if manifest.corrections:
        row = np.array(manifest.corrections[-1], dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(row, "correction"))
        graph.node.append(helper.make_node("Add", ["mean", "correction"], ["corrected"]))
        estimate = "corrected"
    graph.node.append(helper.make_node("Softmax", [estimate], [OUTPUT], axis=1))
    del graph.output[:]
    shape: list[str | int | None] = ["batch", manifest.num_classes]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _without_router(
    repository: Path, name: str, version: int, outputs: list[str]
) -> onnx.ModelProto:
    """A stage's graph without what only its router needs."""
    stage = onnx.load(repository / graph_path(name, version))
    inputs = [value.name for value in stage.graph.input]
    return onnx.utils.Extractor(stage).extract_model(inputs, outputs)
