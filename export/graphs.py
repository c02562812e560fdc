"""One stage of the routing -> one ONNX file, for every batch size from 1 up."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.shortcuts import with_convolutions
from serving.dataplane.tensors import Datatype, TensorSpec
from serving.model.repository import graph_model
from serving.model.stage_signature import StageSignature
from training.model import Backbone, RideModel

OPSET = 18


_DATATYPES = {torch.uint8: Datatype.UINT8, torch.float32: Datatype.FP32}


@dataclass(frozen=True)
class Graph:
    """What becomes one ONNX file: a module in eval mode, examples of its inputs, and its names."""

    name: str
    module: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Scoring(nn.Module):
    """Router i on the estimate of experts 1..i: the mean of their logits and its correction.

    Args: the router; i; the correction of prefix i, fp32 [C], or None for none.
    """

    correction: Tensor | None

    def __init__(self, router: nn.Module, experts: int, correction: Tensor | None) -> None:
        super().__init__()
        self.router = router
        self.experts = experts
        self.register_buffer("correction", correction)

    def forward(self, embedding: Tensor, logits_sum: Tensor) -> Tensor:
        prefix_logits = logits_sum / self.experts
        if self.correction is not None:
            prefix_logits = prefix_logits + self.correction
        score: Tensor = self.router(embedding, prefix_logits)
        return score


class FirstStage(nn.Module):
    """Backbone, expert 1 and router 1: image -> features, logits, embedding, score.

    Images are uint8 [N, H, W, 3], so that clients send plain pixels. A model of one expert has no
    router and passes no features on: image -> logits, embedding.
    """

    def __init__(self, backbone: Backbone, expert: nn.Module, scoring: Scoring | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.expert = expert
        self.scoring = scoring

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(image.permute(0, 3, 1, 2).float() / 255.0)
        logits, embedding = self.expert(features)
        if self.scoring is None:
            return logits, embedding
        return features, logits, embedding, self.scoring(embedding, logits)


class MiddleStage(nn.Module):
    """Expert and router i, 1 < i < K: features, prefix_sum -> logits, embedding, score.

    The last stage is its expert alone: features -> logits, embedding.
    """

    def __init__(self, expert: nn.Module, scoring: Scoring) -> None:
        super().__init__()
        self.expert = expert
        self.scoring = scoring

    def forward(self, features: Tensor, prefix_sum: Tensor) -> tuple[Tensor, ...]:
        logits, embedding = self.expert(features)
        return logits, embedding, self.scoring(embedding, prefix_sum + logits)


def split_model(
    model: RideModel, image_size: int, corrections: Sequence[Sequence[float]] = ()
) -> list[Graph]:
    """Cut a model into the graphs of the repository, in the order in which an image meets them.

    Args: the model; the height and width of its images, in pixels; corrections [K, C] of the mean
    logits of each prefix, or none.
    """
    graphs = []
    tensors = {"image": torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)}
    for stage, module in enumerate(_stages(model, corrections), start=1):
        signature = StageSignature.of(stage, len(model.experts))
        exported = with_convolutions(module)
        inputs = {name: tensors[name] for name in signature.inputs}
        with torch.no_grad():  # not in inference mode, whose tensors can't be traced
            outputs = dict(zip(signature.outputs, exported(*inputs.values()), strict=True))
        examples = tuple(inputs.values())
        specs = _tensors(inputs), _tensors(outputs)
        graphs.append(Graph(graph_model(stage), exported, examples, *specs))
        tensors = {"prefix_sum": outputs["logits"], **tensors, **outputs}
    return graphs


def write_graph(graph: Graph, path: Path) -> None:
    """Export a graph to an ONNX file.

    Raises:
        ExportError: if the module does something that ONNX can't express.
    """
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), _refused_with_a_reason(graph.name):
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


@contextmanager
def _refused_with_a_reason(name: str) -> Iterator[None]:
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ExportError(f"{name} can't be expressed in ONNX: {reason}") from error


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without metadata, which says where each node came from: folders of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer):
        part.ClearField("metadata_props")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("metadata_props")
    return model


def _stages(model: RideModel, corrections: Sequence[Sequence[float]]) -> Iterator[nn.Module]:
    """The modules whose outputs `StageSignature` names, in its order."""
    scorings = [
        Scoring(router, experts, _correction(corrections, experts))
        for experts, router in enumerate(model.routers, start=1)
    ]
    first, *others = model.experts
    yield FirstStage(model.backbone, first, scorings[0] if scorings else None)
    for expert, scoring in zip(others, scorings[1:], strict=False):
        yield MiddleStage(expert, scoring)
    yield from others[-1:]


def _correction(corrections: Sequence[Sequence[float]], experts: int) -> Tensor | None:
    row = corrections[experts - 1] if corrections else ()
    return torch.tensor(row) if any(row) else None


def _tensors(tensors: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, _DATATYPES[tensor.dtype], (-1, *tensor.shape[1:]))
        for name, tensor in tensors.items()
    )
