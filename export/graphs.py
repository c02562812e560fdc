"""One module of the model -> one ONNX file, for every batch size from 1 up."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.shortcuts import with_convolutions
from training.model import Backbone, RideModel

OPSET = 18


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output: its name, numpy-style type name and shape without the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """What becomes one ONNX file: a module in eval mode, examples of its inputs, and its names."""

    name: str
    module: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class UprightBackbone(nn.Module):
    """The backbone as it is served: uint8 [N, H, W, 3] in, so that clients send plain pixels."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.backbone(image.permute(0, 3, 1, 2).float() / 255.0)
        return features


def split_model(model: RideModel, image_size: int) -> list[Graph]:
    """Cut a model into the graphs of the repository, in the order in which an image meets them.

    Args: the model; the height and width of its images, in pixels.
    """
    image = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    backbone = with_convolutions(UprightBackbone(model.backbone))
    with torch.inference_mode():
        features = backbone(image)
        logits, embedding = model.experts[0](features)
    # Plain tensors again: those made in inference mode can't be traced.
    features, logits, embedding = features.clone(), logits.clone(), embedding.clone()
    graphs = [_graph("backbone", backbone, {"image": image}, {"features": features})]
    for i, original in enumerate(model.experts, start=1):
        expert = with_convolutions(original)
        outputs = {"logits": logits, "embedding": embedding}
        graphs.append(_graph(f"expert_{i}", expert, {"features": features}, outputs))
        if i <= len(model.routers):
            inputs = {"embedding": embedding, "prefix_logits": logits}
            score = {"score": logits[:, 0]}
            graphs.append(_graph(f"router_{i}", model.routers[i - 1], inputs, score))
    return graphs


def write_graph(graph: Graph, path: Path) -> None:
    """Export a graph to an ONNX file."""
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph.module,
            graph.examples,
            input_names=[tensor.name for tensor in graph.inputs],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes=tuple({0: batch} for _ in graph.examples),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    onnx.save(without_traces(program.model_proto), path)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without metadata, which says where each node came from: folders of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer):
        part.ClearField("metadata_props")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("metadata_props")
    return model


def _graph(
    name: str, module: nn.Module, inputs: dict[str, Tensor], outputs: dict[str, Tensor]
) -> Graph:
    return Graph(name, module.eval(), tuple(inputs.values()), _specs(inputs), _specs(outputs))


def _specs(tensors: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape[1:]))
        for name, tensor in tensors.items()
    )
