"""Small models with weights drawn at random, as stage graphs that no network was traced for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.engine.graphs import Engine
from serving.engine.provider import Provider
from serving.engine.sessions import open_session
from serving.model.manifest import ImageSpec, Manifest, MultiplyAdds
from serving.model.repository import graph_model
from serving.model.stage_signature import StageSignature

SIDE, FEATURES = 4, 5


@dataclass(frozen=True)
class RandomModel:
    """Its stage graphs, and the engine that runs them."""

    stages: list[onnx.ModelProto]
    engine: Engine


def random_model(
    experts: int, classes: int, thresholds: tuple[float, ...], seed: int
) -> RandomModel:
    """A model of K experts for images of 4 by 4 pixels; every second seed corrects its logits."""
    random = np.random.default_rng(seed)
    stages = [_stage(number, experts, classes, random) for number in range(1, experts + 1)]
    corrections = random.standard_normal((experts, classes)) if seed % 2 else np.zeros((0, 0))
    manifest = Manifest(
        class_names=tuple(f"class {number}" for number in range(classes)),
        class_counts=(1,) * classes,
        image=ImageSpec(SIDE, SIDE, SIDE, "bilinear"),
        thresholds=thresholds,
        multiply_adds=MultiplyAdds(1, (1,) * experts, (1,) * (experts - 1)),
        graphs={},
        gears={},
        corrections=tuple(tuple(map(float, row)) for row in corrections),
        evaluation={},
        provenance={},
        precision="fp32",
        quantization=None,
    )
    sessions = {
        graph_model(number): open_session(stage.SerializeToString(), Provider.CPU)
        for number, stage in enumerate(stages, start=1)
    }
    return RandomModel(stages, Engine(manifest, 1, sessions))


def _stage(stage: int, experts: int, classes: int, random: np.random.Generator) -> onnx.ModelProto:
    signature, nodes = StageSignature.of(stage, experts), _nodes(stage, experts)
    weights = {
        "pixels": random.standard_normal((SIDE * SIDE * 3, FEATURES)) / 500,
        "expert": random.standard_normal((FEATURES, FEATURES)),
        "classifier": random.standard_normal((FEATURES, classes)),
        "router": random.standard_normal((FEATURES, 1)),
    }
    constants = {name: np.asarray(values, np.float32) for name, values in weights.items()}
    constants |= {"first": np.array([0]), "last": np.array([-1])}
    shapes: dict[str, tuple[int, list[int | str]]] = {
        "image": (TensorProto.UINT8, ["batch", SIDE, SIDE, 3]),
        "features": (TensorProto.FLOAT, ["batch", FEATURES]),
        "prefix_sum": (TensorProto.FLOAT, ["batch", classes]),
        "logits": (TensorProto.FLOAT, ["batch", classes]),
        "embedding": (TensorProto.FLOAT, ["batch", FEATURES]),
        "score": (TensorProto.FLOAT, ["batch"]),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        graph_model(stage),
        [helper.make_tensor_value_info(name, *shapes[name]) for name in signature.inputs],
        [helper.make_tensor_value_info(name, *shapes[name]) for name in signature.outputs],
        [numpy_helper.from_array(constants[name], name) for name in constants if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _nodes(stage: int, experts: int) -> list[onnx.NodeProto]:
    """What the stage computes, each node named after what it gives."""
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))

    if stage == 1:
        add("Cast", ["image"], "levels", to=TensorProto.FLOAT)
        add("Flatten", ["levels"], "rows")
        add("MatMul", ["rows", "pixels"], "features")
    add("MatMul", ["features", "expert"], "hidden")
    add("Tanh", ["hidden"], "embedding")
    add("MatMul", ["embedding", "classifier"], "logits")
    if stage < experts:
        estimate = "logits"
        if stage > 1:
            estimate = "sum"
            add("Add", ["prefix_sum", "logits"], estimate)
        add("MatMul", ["embedding", "router"], "from_embedding")
        add("Gather", [estimate, "first"], "from_logits", axis=1)
        add("Sub", ["from_embedding", "from_logits"], "raw")
        add("Sigmoid", ["raw"], "column")
        add("Squeeze", ["column", "last"], "score")
    return nodes
