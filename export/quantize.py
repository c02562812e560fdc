"""ONNX graphs in int8 or fp16, with the names and types of their inputs and outputs unchanged.

Parts that are cheap and sensitive stay in fp32: the normalisation of pixels, the first convolution
(in int8 graphs), the classifier and the router. docs/quantization.md has the figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.graphs import without_traces

Inputs = dict[str, NDArray[Any]]
"""A batch of a graph's inputs, by name."""

INT8_SETTINGS = {
    "format": "QDQ, static",
    "activations": "uint8, from the least and the largest value that calibration saw",
    # Without VNNI the products of two uint8 activations and int8 weights are added up in 16 bits,
    # which saturates: with 8 bits of weights the bundled model lost 7 points on AVX2. With 7 bits
    # nothing saturates on any CPU, and every CPU gives the accuracy that was measured on this one.
    "weights": "int8, 7 bits, per output channel",
    "fp32 parts": "normalisation, first convolution, classifier, routers",
}
FP16_SETTINGS = {
    "format": "fp16 weights and activations",
    "fp32 parts": "normalisation, classifier, routers",
}

_MATRIX_PRODUCTS = {"Conv", "MatMul", "Gemm"}
_EMBEDDING = "embedding"
_ACTIVATIONS = {"Relu", "Clip"}  # fused into the convolution before them


def to_int8(path: Path, inputs: Iterable[Inputs]) -> None:
    """Replace a graph file by its int8 form.

    Args: the file; inputs to calibrate on, a batch each.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        # Shapes only: fusing is left to the machine that will run the graph.
        quant_pre_process(path, prepared, skip_optimization=True, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantize_static(
            prepared,
            quantised,
            _Reader(iter(inputs)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_quantize=_quantisable(model),
            op_types_to_quantize=sorted({*_MATRIX_PRODUCTS, *_ACTIVATIONS, "Add"}),
            extra_options={"MatMulConstBOnly": True},
        )
        onnx.save(without_traces(onnx.load(quantised)), path)


def to_fp16(path: Path) -> None:
    """Replace a graph file by its fp16 form; inputs and outputs are cast inside the graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    head = {name for node in _head(model) for name in node.output}
    first = _first_convolution(model)
    body_inputs, parts = inputs, []
    if first is not None:
        body_inputs = [*inputs, first.input[0]]
        parts.append(_cut(model, inputs, [first.input[0]]))
    body = _cut(model, body_inputs, [name for name in outputs if name not in head])
    parts.append(convert_float_to_float16(body, keep_io_types=True))
    rest = [name for name in outputs if name in head]
    parts.append(_cut(model, [*inputs, _EMBEDDING], rest))
    onnx.save(without_traces(_joined(model, parts)), path)


def _cut(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The part of a model between some of its tensors."""
    return onnx.utils.Extractor(model).extract_model(inputs, outputs)


def _joined(model: onnx.ModelProto, parts: list[onnx.ModelProto]) -> onnx.ModelProto:
    """A model made of the parts that it was cut into; they meet at the names of their ends."""
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    for field in ("node", "initializer", "value_info"):
        joined.graph.ClearField(field)
    for number, part in enumerate(parts):
        _rename_inside(part.graph, f"part_{number}.")
        joined.graph.node.extend(part.graph.node)
        joined.graph.initializer.extend(part.graph.initializer)
    OnnxModel(joined).topological_sort()
    return joined


def _rename_inside(graph: onnx.GraphProto, prefix: str) -> None:
    """What lies inside a part may have the same name and another type in the next."""
    ends = {value.name for value in (*graph.input, *graph.output)} | {""}  # "": left out
    for constant in graph.initializer:
        constant.name = prefix + constant.name
    for node in graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [name if name in ends else prefix + name for name in names]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, inputs: Iterator[Inputs]) -> None:
        self._inputs = inputs

    def get_next(self) -> Inputs | None:
        return next(self._inputs, None)


def _quantisable(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that become int8."""
    first = _first_convolution(model)
    kept = {node.name for node in (*_normalisation(model), *_head(model))}
    if first is not None:
        kept.add(first.name)
    produced_by = {name: node for node in model.graph.node for name in node.output}

    def suits(node: onnx.NodeProto) -> bool:
        if node.op_type == "Add":  # a sum of convolutions: a residual network's, not a bias
            sources = [produced_by.get(name) for name in node.input]
            return any(source is not None and source.op_type == "Conv" for source in sources)
        return node.op_type in _MATRIX_PRODUCTS | _ACTIVATIONS

    return [node.name for node in model.graph.node if suits(node) and node.name not in kept]


def _takes_pixels(model: onnx.ModelProto) -> bool:
    types = {value.type.tensor_type.elem_type for value in model.graph.input}
    return onnx.TensorProto.UINT8 in types


def _first_convolution(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """That of the graph which takes pixels, else None.

    It has three input channels, for which int8 is no faster, and what it rounds reaches all the
    rest: quantising it too made the bundled model's backbone 5 % slower and moved more answers.
    """
    if not _takes_pixels(model):
        return None
    return next((node for node in model.graph.node if node.op_type == "Conv"), None)


def _normalisation(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """What comes before the first convolution of the graph that takes pixels."""
    first = _first_convolution(model)
    nodes = list(model.graph.node)
    return [] if first is None else nodes[: nodes.index(first)]


def _head(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """What works on an expert's embedding: the classifier and the router."""
    reached, nodes = {_EMBEDDING}, []
    for node in model.graph.node:  # in the order in which they run
        if reached.intersection(node.input):
            reached.update(node.output)
            nodes.append(node)
    return nodes
