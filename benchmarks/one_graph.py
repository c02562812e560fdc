"""All experts as one ONNX graph: image -> mean of all logits -> probabilities.

The baseline without routing: what one would serve if every image took every expert. It is made of
the repository's own graphs, so the weights are the same.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, compose, helper

from serving.manifest import graph_path, load_manifest

INPUT, OUTPUT = "image", "probabilities"


def merge_experts(repository: Path, version: int) -> onnx.ModelProto:
    """Merge the backbone and every expert of a model version; routers and corrections stay out."""
    manifest = load_manifest(repository, version)
    merged = _load(repository, "backbone", version)
    names = [f"expert_{i}" for i in range(1, manifest.num_experts + 1)]
    for i, name in enumerate(names, start=1):
        expert = compose.add_prefix(_load(repository, name, version), f"{name}_")
        outputs = [f"{other}_logits" for other in names[:i]]
        merged = compose.merge_models(
            merged,
            expert,
            io_map=[("features", f"{name}_features")],
            outputs=["features", *outputs] if i < len(names) else outputs,
        )
    graph = merged.graph
    graph.node.append(helper.make_node("Mean", [f"{name}_logits" for name in names], ["mean"]))
    graph.node.append(helper.make_node("Softmax", ["mean"], [OUTPUT], axis=1))
    del graph.output[:]
    shape: list[str | int | None] = ["batch", manifest.num_classes]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _load(repository: Path, name: str, version: int) -> onnx.ModelProto:
    return onnx.load(repository / graph_path(name, version))
