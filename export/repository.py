"""Writes a model repository: graphs, what Triton needs beside them, manifest with checksums.

Everything is written beside its place, checked there, and renamed. A new repository appears in
one step, a new version of one that exists as `serving.model.publishing` says.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from export.config_pbtxt import CONFIG_FILE, as_text, graph_config
from export.errors import ExportError
from export.graphs import Graph, write_graph
from export.placement import DEFAULT_PLACEMENT, Placement
from export.self_routing import SelfRouting
from export.triton_models import LABELS_FILE, write_triton_models
from serving.model.manifest import RULES_MODEL_NAME, SELF_ROUTING_MODEL_NAME, Manifest
from serving.model.manifest_json import load_manifest
from serving.model.publishing import next_number, publish_version, write_manifest
from serving.model.repository import graph_path, versions

_MOST_GRAPH_BYTES = 2**31 - 2**24
"""Of all stages: a protobuf message ends at 2 GiB, and the routing takes some room."""


@dataclass(frozen=True)
class StagedVersion:
    """A whole repository with one version in it, beside the place where it will go."""

    directory: Path
    version: int
    models: tuple[str, ...]

    def write_manifest(self, manifest: Manifest) -> None:
        """Write it with the checksums of the graphs as they lie there now."""
        paths = [graph_path(name, self.version) for name in self.models]
        digests = {path: sha256((self.directory / path).read_bytes()).hexdigest() for path in paths}
        write_manifest(self.directory, self.version, replace(manifest, graphs=digests))

    def write_self_routing(self) -> Path | None:
        """Compile the graphs, as they lie there now, and the routing into one; returns its file.

        With a rule among its inputs too, where the repository has such a model. Graphs that are too
        large for one file have neither model: None then.
        """
        paths = [self.directory / graph_path(name, self.version) for name in self.models]
        if sum(path.stat().st_size for path in paths) > _MOST_GRAPH_BYTES:
            for name in (SELF_ROUTING_MODEL_NAME, RULES_MODEL_NAME):
                shutil.rmtree(self.directory / name, ignore_errors=True)
            return None
        graphs = [onnx.load(path) for path in paths]
        compiler = SelfRouting(graphs, load_manifest(self.directory, self.version))
        rules = self.directory / graph_path(RULES_MODEL_NAME, self.version)
        if rules.parent.exists():
            onnx.save(compiler.compile(self.version, optional_rules=False), rules)
        path = self.directory / graph_path(SELF_ROUTING_MODEL_NAME, self.version)
        onnx.save(compiler.compile(self.version), path)
        return path


@contextmanager
def staged_version(
    graphs: list[Graph], manifest: Manifest, target: Path, placement: Placement = DEFAULT_PLACEMENT
) -> Iterator[StagedVersion]:
    """Write the next version of `target` beside it; gone at the end unless published.

    Raises:
        ExportError: if `target` is something else, or holds a model of another shape.
    """
    version = next_version(target)
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    except OSError as error:
        raise ExportError(f"can't write beside {target}: {error.strerror}") from None
    try:
        directory.chmod(0o755)
        for graph in graphs:
            path = directory / graph_path(graph.name, version)
            path.parent.mkdir(parents=True)
            write_graph(graph, path)
            config = graph_config(graph.name, graph.inputs, graph.outputs, placement)
            (directory / graph.name / CONFIG_FILE).write_text(as_text(config))
        staged = StagedVersion(directory, version, tuple(graph.name for graph in graphs))
        staged.write_manifest(manifest)
        rules = placement.rules_as_inputs or (target / RULES_MODEL_NAME).exists()
        write_triton_models(directory, manifest, version, replace(placement, rules_as_inputs=rules))
        yield staged
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(staged: StagedVersion, target: Path) -> None:
    """Move a staged version to its place.

    Raises:
        ExportError: if that place was taken meanwhile, or its graphs have other shapes.
    """
    if not target.exists():
        staged.directory.rename(target)
        return
    _require_same_tensors(staged, target)
    try:
        with _new_models(staged, target):
            publish_version(staged.directory, target, staged.version)
    except OSError as error:
        raise ExportError(f"can't add a version to {target}: {error.strerror}") from None
    for labels in staged.directory.glob(f"*/{LABELS_FILE}"):
        labels.replace(target / labels.relative_to(staged.directory))


def next_version(target: Path) -> int:
    """1 for a new repository, else one more than any that is there.

    Raises:
        ExportError: if `target` exists and is not a model repository.
    """
    if not target.exists():
        return 1
    if not target.is_dir() or not versions(target):
        raise ExportError(
            f"{target} exists and is not a model repository of ride export; name another folder"
        )
    return next_number(target)


@contextmanager
def _new_models(staged: StagedVersion, target: Path) -> Iterator[None]:
    """Give a repository the models that it lacks, still without a version; gone on failure.

    Repositories of earlier releases have no `ride_graph`.
    """
    added = []
    try:
        for config in staged.directory.glob(f"*/{CONFIG_FILE}"):
            folder = target / config.parent.name
            if not folder.exists():
                folder.mkdir()
                added.append(folder)
                shutil.copy(config, folder)
        yield
    except BaseException:
        for folder in added:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _require_same_tensors(staged: StagedVersion, target: Path) -> None:
    """Configurations may differ in all but their tensors: operators tune them."""
    try:
        mine, theirs = _tensors(staged.directory), _tensors(target)
    except text_format.ParseError as error:
        raise ExportError(f"a {CONFIG_FILE} in {target} can't be read: {error}") from None
    if any(mine.get(model) != tensors for model, tensors in theirs.items()):
        raise ExportError(
            f"the model in {target} has other experts or shapes, so this can't be its next "
            "version; name another folder"
        )


def _tensors(repository: Path) -> dict[str, list[bytes]]:
    """Every model's inputs and outputs."""
    tensors = {}
    for path in repository.glob(f"*/{CONFIG_FILE}"):
        config = text_format.Parse(path.read_text(), triton.ModelConfig())
        described = (*config.input, *config.output)
        tensors[path.parent.name] = [tensor.SerializeToString() for tensor in described]
    return tensors
