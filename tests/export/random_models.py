"""Small models with weights drawn at random, as stage graphs that no network was traced for."""

from __future__ import annotations

from dataclasses import dataclass

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
    signature = StageSignature.of(stage, experts)
    weights = {
        "pixels": random.standard_normal((SIDE * SIDE * 3, FEATURES)) / 500,
        "expert": random.standard_normal((FEATURES, FEATURES)),
        "classifier": random.standard_normal((FEATURES, classes)),
        "router": random.standard_normal((FEATURES, 1)),
        "first": [0],
        "last": [-1],
    }
    nodes = []
    if stage == 1:
        nodes += [
            helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["levels"], ["rows"]),
            helper.make_node("MatMul", ["rows", "pixels"], ["features"]),
        ]
    nodes += [
        helper.make_node("MatMul", ["features", "expert"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "classifier"], ["logits"]),
    ]
    if stage < experts:
        estimate = "logits"
        if stage > 1:
            estimate = "sum"
            nodes.append(helper.make_node("Add", ["prefix_sum", "logits"], ["sum"]))
        nodes += [
            helper.make_node("MatMul", ["embedding", "router"], ["from_embedding"]),
            helper.make_node("Gather", [estimate, "first"], ["from_logits"], axis=1),
            helper.make_node("Sub", ["from_embedding", "from_logits"], ["raw"]),
            helper.make_node("Sigmoid", ["raw"], ["column"]),
            helper.make_node("Squeeze", ["column", "last"], ["score"]),
        ]
    for node in nodes:
        node.name = node.output[0]
    used = {name for node in nodes for name in node.input}
    shapes: dict[str, tuple[int, list[int | str]]] = {
        "image": (TensorProto.UINT8, ["batch", SIDE, SIDE, 3]),
        "features": (TensorProto.FLOAT, ["batch", FEATURES]),
        "prefix_sum": (TensorProto.FLOAT, ["batch", classes]),
        "logits": (TensorProto.FLOAT, ["batch", classes]),
        "embedding": (TensorProto.FLOAT, ["batch", FEATURES]),
        "score": (TensorProto.FLOAT, ["batch"]),
    }
    graph = helper.make_graph(
        nodes,
        graph_model(stage),
        [helper.make_tensor_value_info(name, *shapes[name]) for name in signature.inputs],
        [helper.make_tensor_value_info(name, *shapes[name]) for name in signature.outputs],
        [
            numpy_helper.from_array(
                np.asarray(value, np.int64 if name in {"first", "last"} else np.float32), name
            )
            for name, value in weights.items()
            if name in used
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
