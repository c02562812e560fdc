"""A real Triton with the bundled model, clients of it, and real images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from benchmarks.images import SampleImages, read_images
from benchmarks.local_triton.install import unsupported
from export.placement import Placement
from export.repository import StagedVersion
from export.triton_models import write_triton_models
from serving.engine.graphs import Engine, load_engine
from serving.model.repository import graph_models
from tests.running.triton import RunningTriton, running_triton

SELF_ROUTING_MODELS = "ride_graph", "ride_graph_rules"
EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need Triton, and are skipped where it can't run."""
    reason = unsupported()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.triton)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def triton_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundled model's repository, to which tests may add versions."""
    return Path(shutil.copytree(repository, tmp_path_factory.mktemp("triton") / "repository"))


@pytest.fixture(scope="package")
def triton(
    triton_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    folder = tmp_path_factory.mktemp("running")
    with running_triton(triton_repository, folder, EXPLICIT) as running:
        yield running
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture(scope="session")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


@pytest.fixture(scope="session")
def images() -> SampleImages:
    """A thousand of CIFAR-100's test images."""
    return read_images()


@pytest.fixture(scope="package")
def graphs_alone(
    engine: Engine, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    """A Triton whose repository holds the two graphs, as an export writes them, and no more."""
    whole = Path(shutil.copytree(repository, tmp_path_factory.mktemp("whole") / "repository"))
    write_triton_models(whole, engine.manifest, 1, Placement(rules_as_inputs=True))
    StagedVersion(whole, 1, tuple(graph_models(engine.manifest.num_experts))).write_self_routing()
    folder = tmp_path_factory.mktemp("graphs_alone")
    for name in SELF_ROUTING_MODELS:
        shutil.copytree(whole / name, folder / "repository" / name)
    with running_triton(folder / "repository", folder) as running:
        yield running


@dataclass(frozen=True)
class Client:
    """tritonclient over one of its transports."""

    module: Any
    connection: Any

    def image(self, pixels: NDArray[Any], datatype: str = "UINT8") -> Any:
        tensor = self.module.InferInput("image", list(pixels.shape), datatype)
        tensor.set_data_from_numpy(pixels)
        return tensor

    def files(self, files: list[bytes]) -> Any:
        tensor = self.module.InferInput("image_bytes", [len(files)], "BYTES")
        tensor.set_data_from_numpy(np.array(files, dtype=np.object_))
        return tensor

    def infer(self, model: str, tensor: Any, **options: Any) -> Any:
        return self.connection.infer(model, [tensor], **options)


@pytest.fixture(scope="package", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, triton: RunningTriton) -> Iterator[Client]:
    module = tritonclient.http if request.param == "http" else tritonclient.grpc
    address = triton.http_address if request.param == "http" else triton.grpc_address
    with closing(module.InferenceServerClient(address)) as connection:
        yield Client(module, connection)


@pytest.fixture(scope="session")
def expect(engine: Engine) -> Callable[..., None]:
    """Asserts that an answer is the engine's."""

    def check(result: Any, pixels: NDArray[np.uint8], **parameters: Any) -> None:
        expected = engine.classify(pixels, engine.rule(**parameters))
        used = result.as_numpy("experts_used")
        assert used.dtype == np.int32
        np.testing.assert_array_equal(used, expected.experts_used)
        for name in ("probabilities", "router_scores"):
            answered = result.as_numpy(name)
            assert answered.dtype == np.float32
            np.testing.assert_allclose(answered, getattr(expected, name), atol=1e-5)

    return check
