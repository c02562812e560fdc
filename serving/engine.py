"""A model version in ONNX Runtime: runs the graphs that `serving.routing` asks for.

Every graph is one session of one thread. Sessions are safe to share between threads, and worker
threads do share them: a set of their own for each was no faster, and costs memory for each core.
On an accelerator the features of a batch stay on the device between the backbone and the experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.errors import InferenceError, InvalidRequest, ModelRepositoryError, SettingsError
from serving.manifest import (
    FILE_NAME,
    Gear,
    Manifest,
    graph_models,
    graph_path,
    latest_version,
    load_manifest,
    read_graph,
)
from serving.providers import Provider, open_session
from serving.routing import (
    ExpertCall,
    ExpertOutput,
    Float,
    Routed,
    RouterCall,
    RoutingRule,
    drive,
    route,
)

Features: TypeAlias = NDArray[np.float32] | ort.OrtValue
"""What a backbone gives: an array, or a value that stays on the accelerator."""

_SIGNATURES = {
    "backbone": ({"image"}, {"features"}),
    "expert": ({"features"}, {"logits", "embedding"}),
    "router": ({"embedding", "prefix_logits"}, {"score"}),
}


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
        """The manifest's routing rule, with a request's wishes in place of its own numbers.

        Raises:
            InvalidRequest: if a wish is out of range or contradicts another.
        """
        experts = self.manifest.num_experts
        if max_experts is not None and not 1 <= max_experts <= experts:
            raise InvalidRequest(f"max_experts must lie between 1 and {experts}, not {max_experts}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise InvalidRequest(f"threshold must lie between 0 and 1, not {threshold}")
        if threshold is not None and quality is not None:
            raise InvalidRequest("threshold and quality both set thresholds: give one of them")
        thresholds = self.manifest.thresholds
        if threshold is not None:
            thresholds = (threshold,) * len(thresholds)
        if quality is not None:
            thresholds = self._gear(quality).thresholds
        corrections = self.manifest.corrections
        return RoutingRule(
            thresholds,
            experts if max_experts is None else max_experts,
            np.array(corrections, dtype=np.float32) if corrections else None,
        )

    def _gear(self, quality: str) -> Gear:
        gears = self.manifest.gears
        if not gears:
            raise InvalidRequest("this model has no gears, so it takes no quality")
        if quality not in gears:
            raise InvalidRequest(f"quality must be one of {', '.join(gears)}, not {quality!r}")
        return gears[quality]

    def classify(self, images: NDArray[np.uint8], rule: RoutingRule) -> Routed:
        """Route a batch of images, uint8 [N, H, W, 3], from start to end.

        Raises:
            InvalidRequest: if the tensor has another type or shape.
            InferenceError: if the runtime fails.
        """
        self.check(images)
        features = self.run_backbone(images)

        def run_expert(call: ExpertCall) -> ExpertOutput:
            every = len(call.rows) == len(images)
            return self.run_expert(call.expert, features if every else host(features)[call.rows])

        def run_router(call: RouterCall) -> Float:
            return self.run_router(call.router, call.embedding, call.prefix_logits)

        return drive(route(len(images), self.manifest.num_classes, rule), run_expert, run_router)

    def run_backbone(self, images: NDArray[np.uint8]) -> Features:
        """Images, uint8 [N, H, W, 3], to features [N, ..]; see `host`."""
        if self.device is not None:
            [value] = self._run_bound("backbone", {"image": images}, {"features": self.device})
            return value
        features: Float = self._run("backbone", ["features"], {"image": images})[0]
        self._require_shape("features", features, (len(images), *features.shape[1:]), "backbone")
        return features

    def run_expert(self, expert: int, features: Features) -> ExpertOutput:
        """Features [N, ..] to what an expert (from 1) says of them."""
        name = f"expert_{expert}"
        if isinstance(features, np.ndarray):
            rows = len(features)
            logits, embedding = self._run(name, ["logits", "embedding"], {"features": features})
        else:
            rows = features.shape()[0]
            outputs = {"logits": "cpu", "embedding": "cpu"}
            bound = self._run_bound(name, {"features": features}, outputs)
            logits, embedding = (value.numpy() for value in bound)
        self._require_shape("logits", logits, (rows, self.manifest.num_classes), name)
        return ExpertOutput(logits, embedding)

    def run_router(self, router: int, embedding: Float, prefix_logits: Float) -> Float:
        """An embedding [N, D] and prefix logits [N, C] to a router's scores [N]."""
        name = f"router_{router}"
        inputs = {"embedding": embedding, "prefix_logits": prefix_logits}
        score: Float = self._run(name, ["score"], inputs)[0]
        self._require_shape("score", score, (len(embedding),), name)
        return score

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

    def _run(self, model: str, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        with _failing_as(model):
            results: list[Any] = self.sessions[model].run(outputs, inputs)
            return results

    def _run_bound(
        self, model: str, inputs: dict[str, Any], outputs: dict[str, str]
    ) -> list[ort.OrtValue]:
        """Run with inputs where they are, arrays or values on the device; outputs by device."""
        with _failing_as(model):
            session = self.sessions[model]
            binding = session.io_binding()
            for name, value in inputs.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, value)
            for name, device in outputs.items():
                binding.bind_output(name, device)
            session.run_with_iobinding(binding)
            values: list[ort.OrtValue] = list(binding.get_outputs())
            return values

    @staticmethod
    def _require_shape(
        output: str, tensor: NDArray[Any], shape: tuple[int, ...], model: str
    ) -> None:
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


def host(features: Features) -> Float:
    """Features as an array, brought from the device if that is where they are."""
    if isinstance(features, np.ndarray):
        return features
    array: Float = features.numpy()
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
    for name in graph_models(manifest.num_experts):
        path = graph_path(name, chosen)
        graph = read_graph(repository, manifest, path)
        sessions[name] = _session(graph, name, repository / path, provider)
    device = None if provider is Provider.CPU else provider.device
    engine = Engine(manifest, chosen, sessions, device)
    _try_out(engine, repository)
    return engine


def _session(graph: bytes, name: str, path: Path, provider: Provider) -> ort.InferenceSession:
    try:
        session = open_session(graph, provider)
    except SettingsError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise ModelRepositoryError(f"{path} is not a graph that ONNX Runtime can run") from error
    inputs, outputs = _SIGNATURES[name.partition("_")[0]]
    found_inputs = {tensor.name for tensor in session.get_inputs()}
    found_outputs = {tensor.name for tensor in session.get_outputs()}
    if found_inputs != inputs or found_outputs != outputs:
        raise ModelRepositoryError(
            f"{path} must have inputs {sorted(inputs)} and outputs {sorted(outputs)}, "
            f"not {sorted(found_inputs)} and {sorted(found_outputs)}"
        )
    return session


def _try_out(engine: Engine, repository: Path) -> None:
    """Send one and two grey images through every graph: faults show here, not to a client."""
    spec, experts = engine.manifest.image, engine.manifest.num_experts
    for rows in (1, 2):
        grey = np.full((rows, spec.height, spec.width, 3), 128, dtype=np.uint8)
        try:
            features = engine.run_backbone(grey)
            for expert in range(1, experts + 1):
                output = engine.run_expert(expert, features)
                _require_finite(output.logits, f"expert_{expert}")
                if expert < experts:
                    score = engine.run_router(expert, output.embedding, output.logits)
                    _require_finite(score, f"router_{expert}")
        except InferenceError as error:
            raise ModelRepositoryError(
                f"the graphs and {FILE_NAME} in {repository} do not fit together: {error}"
            ) from error


def _require_finite(tensor: Float, model: str) -> None:
    if not np.isfinite(tensor).all():
        raise InferenceError(f"the model's graph {model} gives answers that are not numbers")
