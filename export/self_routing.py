"""The graphs of all stages and the routing between them as one ONNX graph.

What `serving.model.routing` says, in operators of ONNX: a stage runs on the rows that it is given;
`NonZero` finds those that go on; where there are any, `If` runs the rest of the graph, for which
`Gather` picks them, and `ScatterND` puts what further experts made of them back in their places. So
any runtime answers with early exit, and a batch of easy images costs stage 1 and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from serving.dataplane.tensors import answer_tensors
from serving.model.manifest import Manifest
from serving.model.stage_signature import StageSignature

THRESHOLDS, MAX_EXPERTS = "thresholds", "max_experts"


@dataclass(frozen=True)
class _Rows:
    """Names of what n rows bring to a stage.

    Attributes:
        source: what its graph takes: the images uint8 [n, H, W, 3], or the features fp32 [n, ..].
        prefix_sum: fp32 [n, C], the logits of the experts before, added up; None before stage 1.
        thresholds: fp32 [n, K-1].
        max_experts: int32 [n].
    """

    source: str
    prefix_sum: str | None
    thresholds: str
    max_experts: str


@dataclass(frozen=True)
class _Outcome:
    """Names of what experts made of n rows.

    Attributes:
        sums: fp32 [n, C], the logits of the experts so far, added up.
        experts_used: int32 [n].
        scores: fp32 [n, R], of the R routers that are left; None where none is.
    """

    sums: str
    experts_used: str
    scores: str | None

    @property
    def names(self) -> list[str]:
        return [name for name in (self.sums, self.experts_used, self.scores) if name is not None]


class _Body:
    """Nodes and constants of a graph, or of a branch, in the order in which they are added."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator of one output; returns the output's name."""
        output = output or f"{self.prefix}{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, values: object, dtype: type[np.generic] = np.int64) -> str:
        """Add a constant; returns its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def inline(self, graph: onnx.GraphProto, inputs: dict[str, str]) -> dict[str, str]:
        """Add a graph that takes tensors of these names; returns those of its outputs."""
        names = dict(inputs)
        inlined = compose.add_prefix_graph(graph, self.prefix, rename_inputs=False, name_map=names)
        self.nodes += inlined.node
        self.constants += inlined.initializer
        return {output.name: names[output.name] for output in graph.output}


class SelfRouting:
    """Compiles the stages of one model, and the routing between them, into one graph.

    Args: the graphs of stages 1..K; the manifest of their version.
    """

    def __init__(self, stages: Sequence[onnx.ModelProto], manifest: Manifest) -> None:
        self._stages = stages
        self._manifest = manifest
        self._experts = manifest.num_experts

    def compile(self, version: int, *, optional_rules: bool = True) -> onnx.ModelProto:
        """The graph that answers what `ride` answers, with its metadata.

        Its inputs are `image` and, where there are routers, `thresholds` and `max_experts`: a rule
        for each row, or one for all.

        Args: the version that the file says it is; whether the model's own rule is the default of
        these inputs (overridable initialisers), else they are required.
        """
        body = _Body("ride.")
        self._answer(body, self._run_from(1, body, self._all_rows(body)))
        constants = [*(self._own_rule() if optional_rules else ()), *body.constants]
        graph = helper.make_graph(body.nodes, "ride", self._inputs(), self._outputs(), constants)
        model = helper.make_model(
            graph,
            ir_version=max(stage.ir_version for stage in self._stages),
            opset_imports=self._operator_sets(),
            producer_name="ride-server",
            model_version=version,
        )
        helper.set_model_props(model, self._metadata(version))
        return model

    def _all_rows(self, body: _Body) -> _Rows:
        """Each with a rule. What a rule may not be becomes what lies nearest; NaN, the model's."""
        if self._experts == 1:
            return _Rows("image", None, "", "")
        size = body.add("Concat", body.add("Shape", "image", end=1), body.constant([1]), axis=0)
        own = body.constant([self._manifest.thresholds], np.float32)
        given = body.add("Where", body.add("IsNaN", THRESHOLDS), own, THRESHOLDS)
        least, most = body.constant(0, np.float32), body.constant(1, np.float32)
        thresholds = body.add("Expand", body.add("Clip", given, least, most), size)
        least, most = body.constant(1, np.int32), body.constant(self._experts, np.int32)
        max_experts = body.add("Expand", body.add("Clip", MAX_EXPERTS, least, most), size)
        max_experts = body.add("Squeeze", max_experts, body.constant([1]))
        return _Rows("image", None, thresholds, max_experts)

    def _run_from(self, stage: int, body: _Body, rows: _Rows) -> _Outcome:
        """Run a stage on some rows, and those after it on the ones that go on."""
        source, *_ = signature = StageSignature.of(stage, self._experts).inputs
        given = {source: rows.source, "prefix_sum": rows.prefix_sum or ""}
        said = body.inline(self._stages[stage - 1].graph, {name: given[name] for name in signature})
        sums = said["logits"]
        if rows.prefix_sum is not None:
            sums = body.add("Add", rows.prefix_sum, sums)
        size = body.add("Shape", sums, end=1)
        used = body.add("Expand", body.constant(stage, np.int32), size)
        if stage == self._experts:
            return _Outcome(sums, used, None)
        may_go_on = body.add("Greater", rows.max_experts, body.constant(stage, np.int32))
        nan = body.constant(np.nan, np.float32)
        score = body.add("Where", may_go_on, said["score"], nan)
        threshold = body.add("Gather", rows.thresholds, body.constant(stage - 1), axis=1)
        above = body.add("Greater", said["score"], threshold)
        places = body.add("NonZero", body.add("And", may_go_on, above))
        left = self._experts - 1 - stage
        stopped = _Outcome(sums, used, self._no_scores(body, size, left) if left else None)
        features = said["features"] if stage == 1 else rows.source
        going = _Rows(features, sums, rows.thresholds, rows.max_experts)
        outcome = self._go_on(stage + 1, body, places, going, stopped)
        column = body.add("Unsqueeze", score, body.constant([1]))
        scores = column
        if outcome.scores is not None:
            scores = body.add("Concat", column, outcome.scores, axis=1)
        return _Outcome(outcome.sums, outcome.experts_used, scores)

    def _go_on(
        self, stage: int, body: _Body, places: str, rows: _Rows, stopped: _Outcome
    ) -> _Outcome:
        """Run a stage, and those after it, on the rows in these places, int64 [1, m], if any."""
        on, off = _Body(f"stage_{stage}."), _Body(f"stage_{stage}.none.")
        index = on.add("Squeeze", places, on.constant([0]))
        assert rows.prefix_sum is not None
        source, prefix_sum, thresholds, max_experts = (
            on.add("Gather", name, index)
            for name in (rows.source, rows.prefix_sum, rows.thresholds, rows.max_experts)
        )
        further = self._run_from(stage, on, _Rows(source, prefix_sum, thresholds, max_experts))
        column = on.add("Transpose", places, perm=[1, 0])
        for before, after in zip(stopped.names, further.names, strict=True):
            on.add("ScatterND", before, column, after, output=f"{before}.on")
            off.add("Identity", before, output=f"{before}.off")
        any_rows = body.add("Greater", body.add("Size", places), body.constant(0))
        names = [f"{before}.out" for before in stopped.names]
        body.nodes.append(
            helper.make_node(
                "If",
                [any_rows],
                names,
                name=f"{body.prefix}If",
                then_branch=self._branch(on, [f"{each}.on" for each in stopped.names]),
                else_branch=self._branch(off, [f"{each}.off" for each in stopped.names]),
            )
        )
        sums, used, *scores = names
        return _Outcome(sums, used, scores[0] if scores else None)

    def _branch(self, body: _Body, names: Sequence[str]) -> onnx.GraphProto:
        kinds = TensorProto.FLOAT, TensorProto.INT32, TensorProto.FLOAT
        shapes: tuple[list[int | None], ...] = (
            [None, self._manifest.num_classes],
            [None],
            [None, None],
        )
        outputs = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in zip(names, kinds, shapes, strict=False)
        ]
        return helper.make_graph(body.nodes, f"{body.prefix}branch", [], outputs, body.constants)

    def _no_scores(self, body: _Body, size: str, routers: int) -> str:
        shape = body.add("Concat", size, body.constant([routers]), axis=0)
        return body.add("Expand", body.constant(np.nan, np.float32), shape)

    def _answer(self, body: _Body, outcome: _Outcome) -> None:
        """The answers' tensors, of the mean logits with the correction of each row's prefix."""
        counts = body.add("Cast", outcome.experts_used, to=TensorProto.FLOAT)
        counts = body.add("Unsqueeze", counts, body.constant([1]))
        estimates = body.add("Div", outcome.sums, counts)
        if self._manifest.corrections:
            last = body.add("Sub", outcome.experts_used, body.constant(1, np.int32))
            corrections = body.constant(self._manifest.corrections, np.float32)
            correction = body.add("Gather", corrections, last, axis=0)
            estimates = body.add("Add", estimates, correction)
        body.add("Softmax", estimates, output="probabilities", axis=1)
        body.add("Identity", outcome.experts_used, output="experts_used")
        scores = outcome.scores
        if scores is None:
            scores = self._no_scores(body, body.add("Shape", "image", end=1), 0)
        body.add("Identity", scores, output="router_scores")

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        image, routers = self._manifest.image, self._experts - 1
        inputs = [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, ["batch", image.height, image.width, 3]
            )
        ]
        if routers:
            # One for all rows, as by default, or one for each: its own number of them.
            inputs += [
                helper.make_tensor_value_info(THRESHOLDS, TensorProto.FLOAT, ["rules", routers]),
                helper.make_tensor_value_info(MAX_EXPERTS, TensorProto.INT32, ["limits", 1]),
            ]
        return inputs

    def _own_rule(self) -> list[TensorProto]:
        """The model's own rule, one for all rows, where the inputs are not given."""
        if self._experts == 1:
            return []
        thresholds = np.array([self._manifest.thresholds], np.float32)
        max_experts = np.array([[self._experts]], np.int32)
        return [
            numpy_helper.from_array(thresholds, THRESHOLDS),
            numpy_helper.from_array(max_experts, MAX_EXPERTS),
        ]

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        types = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32}
        return [
            helper.make_tensor_value_info(
                tensor.name, types[tensor.datatype.name], ["batch", *tensor.shape[1:]]
            )
            for tensor in answer_tensors(self._manifest)
        ]

    def _operator_sets(self) -> list[onnx.OperatorSetIdProto]:
        """Those of all stages, which one tool wrote."""
        found = {
            (each.domain, each.version) for stage in self._stages for each in stage.opset_import
        }
        return [helper.make_opsetid(domain, version) for domain, version in sorted(found)]

    def _metadata(self, version: int) -> dict[str, str]:
        """What a program needs to prepare images and to name classes; every value is JSON."""
        manifest = self._manifest
        facts: dict[str, object] = {
            "ride_version": version,
            "class_names": manifest.class_names,
            "image": asdict(manifest.image),
            "num_experts": manifest.num_experts,
            "thresholds": manifest.thresholds,
            "gears": {name: gear.thresholds for name, gear in manifest.gears.items()},
            "multiply_adds": asdict(manifest.multiply_adds),
            "precision": manifest.precision,
        }
        return {name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}
