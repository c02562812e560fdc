"""A model version in ONNX Runtime: runs the graphs that `serving.model.routing` asks for.

Every stage is one graph, and a graph is one session of one thread. Sessions are safe to share
between threads, and worker threads do share them: a set of their own for each was no faster, and
costs memory for each core. On an accelerator the features of a batch stay on the device between
the stages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.engine.provider import Provider
from serving.engine.sessions import open_session
from serving.errors import InferenceError, InvalidRequest, ModelRepositoryError, SettingsError
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import (
    FILE_NAME,
    graph_model,
    graph_models,
    graph_path,
    latest_version,
    read_graph,
)
from serving.model.routing import (
    Float,
    Routed,
    RoutingRule,
    RoutingState,
    StageCall,
    StageOutput,
    route,
)
from serving.model.rules import routing_rule
from serving.model.stage_signature import StageSignature

Features: TypeAlias = NDArray[np.float32] | ort.OrtValue
"""What the backbone gives, fp32 [N, ..]: an array, or a value that stays on the accelerator."""

StageInputs: TypeAlias = NDArray[np.uint8] | Features
"""Images, uint8 [N, H, W, 3], for stage 1, and features for the others."""

Feeds: TypeAlias = dict[str, NDArray[Any] | ort.OrtValue]
"""What a graph takes, by name."""


@dataclass(frozen=True)
class StageRun:
    """What a stage said of N rows.

    Attributes:
        output: of its expert and router.
        features: what the next stage takes of the same rows; they may still be on the device.
        seconds: that the stage's graph took.
        embedding: fp32 [N, D], what its expert's classifier saw; None where it wasn't asked for.
    """

    output: StageOutput
    features: StageInputs
    seconds: float
    embedding: Float | None = None


@dataclass(frozen=True)
class StageStep:
    """A stage on all rows of a batch: what its graph took, what it said, and where rows stand."""

    feeds: Feeds
    run: StageRun
    state: RoutingState


@dataclass(frozen=True)
class Engine:
    """A loaded model version. Build one with `load_engine`.

    Attributes:
        manifest: what the repository says of the model.
        version: the version that was loaded.
        sessions: one ONNX Runtime session a graph, by the graph's model name.
        device: where features stay between graphs, as ONNX Runtime's IO binding calls it; None
            for plain arrays, which is as fast on a CPU.
    """

    manifest: Manifest
    version: int
    sessions: dict[str, ort.InferenceSession]
    device: str | None = None

    def rule(
        self,
        max_experts: int | None = None,
        threshold: float | None = None,
        quality: str | None = None,
    ) -> RoutingRule:
        """The rule of a request's parameters; see `serving.model.rules`.

        Raises:
            InvalidRequest: if a parameter is out of range or contradicts another.
        """
        return routing_rule(self.manifest, max_experts, threshold, quality)

    def classify(self, images: NDArray[np.uint8], rule: RoutingRule) -> Routed:
        """Route a batch of images, uint8 [N, H, W, 3], from start to end.

        Raises:
            InvalidRequest: if the tensor has another type or shape.
            InferenceError: if the runtime fails.
        """
        self.check(images)
        features: StageInputs = images

        def run_stage(call: StageCall) -> StageOutput:
            nonlocal features
            if len(call.rows) < len(images):
                return self.run_stage(call, host(features)[call.rows]).output
            run = self.run_stage(call, features)
            features = run.features
            return run.output

        return route(len(images), self.manifest.num_classes, rule, run_stage)

    def run_stage(
        self, call: StageCall, inputs: StageInputs, *, embedding: bool = False
    ) -> StageRun:
        """Run a stage on the rows of a call; `inputs` are of these rows alone.

        Routing needs no embedding: it is computed where it is asked for.

        Raises:
            InferenceError: if the runtime fails, or gives tensors of other shapes or types.
        """
        name, signature = graph_model(call.stage), self._signature(call.stage)
        wanted = list(signature.outputs) if embedding else signature.routing_outputs
        run = self._run if self.device is None else self._run_bound
        start = time.perf_counter()
        found = run(name, self.feeds(call, inputs), wanted)
        seconds = time.perf_counter() - start
        rows = len(call.rows)
        shapes = {"logits": (rows, self.manifest.num_classes), "score": (rows,)}
        for what, tensor in found.items():
            if isinstance(tensor, np.ndarray):
                _require_shape(what, tensor, shapes.get(what, (rows, *tensor.shape[1:])), name)
        output = StageOutput(found["logits"], found.get("score"))
        return StageRun(output, found.get("features", inputs), seconds, found.get("embedding"))

    def feeds(self, call: StageCall, inputs: StageInputs) -> Feeds:
        """What the graph of a call takes."""
        given: Feeds = {"image": inputs, "features": inputs, "prefix_sum": call.prefix_sum}
        return {name: given[name] for name in self._signature(call.stage).inputs}

    def every_stage(self, images: NDArray[np.uint8]) -> Iterator[StageStep]:
        """Run stage after stage on all of some images, uint8 [N, H, W, 3], whatever the scores.

        Raises:
            InferenceError: as `run_stage`.
        """
        experts = self.manifest.num_experts
        rule = RoutingRule.every_expert(experts, self.manifest.prefix_corrections)
        state = RoutingState.start([rule] * len(images), experts, self.manifest.num_classes)
        inputs: StageInputs = images
        for stage in range(1, experts + 1):
            call = state.call(stage)
            run = self.run_stage(call, inputs)
            state.advance(call, run.output)
            yield StageStep(self.feeds(call, inputs), run, state)
            inputs = run.features

    def check(self, images: NDArray[np.uint8]) -> None:
        """Raise InvalidRequest unless this is a tensor that the model takes."""
        spec = self.manifest.image
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
            raise InvalidRequest("images must be a non-empty UINT8 tensor of shape [N, H, W, 3]")
        if images.shape[1:] != (spec.height, spec.width, 3):
            raise InvalidRequest(
                f"images must have the shape [N, {spec.height}, {spec.width}, 3], "
                f"not {list(images.shape)}"
            )

    def _signature(self, stage: int) -> StageSignature:
        return StageSignature.of(stage, self.manifest.num_experts)

    def _run(self, model: str, feeds: Feeds, outputs: list[str]) -> dict[str, Any]:
        with _failing_as(model):
            return dict(zip(outputs, self.sessions[model].run(outputs, feeds), strict=True))

    def _run_bound(self, model: str, feeds: Feeds, outputs: list[str]) -> dict[str, Any]:
        """Run with inputs where they are, arrays or values on the device; features stay there."""
        with _failing_as(model):
            session = self.sessions[model]
            binding = session.io_binding()
            for name, value in feeds.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, self.device if name == "features" else "cpu")
            session.run_with_iobinding(binding)
            values = dict(zip(outputs, binding.get_outputs(), strict=True))
            return {
                name: value if name == "features" else value.numpy()
                for name, value in values.items()
            }


def _require_shape(output: str, tensor: NDArray[Any], shape: tuple[int, ...], model: str) -> None:
    # numpy would stretch a tensor of another shape without a word.
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise InferenceError(
            f"the model's graph {model} gives {output} of type {tensor.dtype} and shape "
            f"{list(tensor.shape)} instead of float32 and {list(shape)}"
        )


@contextmanager
def _failing_as(model: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise InferenceError(f"the model's graph {model} failed") from error


def host(features: StageInputs) -> NDArray[Any]:
    """A stage's inputs as an array, brought from the device if that is where they are."""
    if isinstance(features, np.ndarray):
        return features
    array: NDArray[Any] = features.numpy()
    return array


def load_engine(
    repository: Path, version: int | None = None, provider: Provider = Provider.CPU
) -> Engine:
    """Load a model version (the latest unless one is named), checking every file.

    Raises:
        ModelRepositoryError: naming the first file that is missing, altered or unfit.
        SettingsError: if the provider does not work on this machine.
    """
    chosen = latest_version(repository) if version is None else version
    manifest = load_manifest(repository, chosen)
    sessions = {}
    for stage, name in enumerate(graph_models(manifest.num_experts), start=1):
        path = graph_path(name, chosen)
        graph = read_graph(repository, manifest, path)
        session = sessions[name] = _session(graph, repository / path, provider)
        _require_signature(
            session, StageSignature.of(stage, manifest.num_experts), repository / path
        )
    device = None if provider is Provider.CPU else provider.device
    engine = Engine(manifest, chosen, sessions, device)
    _try_out(engine, repository)
    return engine


def _session(graph: bytes, path: Path, provider: Provider) -> ort.InferenceSession:
    try:
        return open_session(graph, provider)
    except SettingsError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise ModelRepositoryError(f"{path} is not a graph that ONNX Runtime can run") from error


def _require_signature(session: ort.InferenceSession, expected: StageSignature, path: Path) -> None:
    inputs = {tensor.name for tensor in session.get_inputs()}
    outputs = {tensor.name for tensor in session.get_outputs()}
    if inputs != set(expected.inputs) or outputs != set(expected.outputs):
        raise ModelRepositoryError(
            f"{path} must have inputs {sorted(expected.inputs)} and outputs "
            f"{sorted(expected.outputs)}, not {sorted(inputs)} and {sorted(outputs)}"
        )


def _try_out(engine: Engine, repository: Path) -> None:
    """Send one and two grey images through every graph: faults show here, not to a client."""
    spec = engine.manifest.image
    for rows in (1, 2):
        grey = np.full((rows, spec.height, spec.width, 3), 128, dtype=np.uint8)
        try:
            for stage, step in enumerate(engine.every_stage(grey), start=1):
                _require_finite(step.run.output, graph_model(stage))
        except InferenceError as error:
            raise ModelRepositoryError(
                f"the graphs and {FILE_NAME} in {repository} do not fit together: {error}"
            ) from error


def _require_finite(output: StageOutput, model: str) -> None:
    for tensor in (output.logits, output.score):
        if tensor is not None and not np.isfinite(tensor).all():
            raise InferenceError(f"the model's graph {model} gives answers that are not numbers")
