"""Versions of the model in Triton: a newer one is taken up whole, a damaged one not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.model.repository import manifest_path
from tests.model_versions import add_version
from tests.running.triton import running_triton
from tests.triton.conftest import EXPLICIT, Client

MODELS = ("stage_1", "stage_2", "stage_3", "ride_decoding", "ride", "ride_image")


@pytest.fixture(scope="module")
def changing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that gets further versions."""
    return Path(shutil.copytree(repository, tmp_path_factory.mktemp("versions") / "repository"))


@pytest.fixture(scope="module")
def client(changing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    module = tritonclient.grpc
    with (
        running_triton(changing, tmp_path_factory.mktemp("running"), EXPLICIT) as triton,
        closing(module.InferenceServerClient(triton.grpc_address)) as connection,
    ):
        yield Client(module, connection)


def test_a_new_version_is_taken_up_whole(
    client: Client, images: SampleImages, changing: Path, expect: Callable[..., None]
) -> None:
    """Version 2 has other thresholds, and its routing asks version 2 of the graphs."""

    def never_go_on(manifest: dict[str, Any]) -> None:
        manifest["thresholds"] = [1.0, 1.0]

    pixels = images.pixels[:32]
    expect(client.infer("ride", client.image(pixels)), pixels)
    add_version(changing, 2, never_go_on)
    for model in MODELS:
        client.connection.load_model(model)
        answer = client.infer("ride", client.image(pixels))  # at any moment one or the other
        assert answer.as_numpy("experts_used").shape == (32,)
    assert answer.get_response().model_version == "2"
    expect(answer, pixels, threshold=1.0)
    files = client.infer("ride_image", client.files(list(images.files[:8])))
    expect(files, pixels[:8], threshold=1.0)


def test_a_damaged_version_is_not_served(
    client: Client, images: SampleImages, changing: Path
) -> None:
    add_version(changing, 3)
    manifest_path(changing, 3).write_text("{}")
    with pytest.raises(InferenceServerException, match="not a valid manifest"):
        client.connection.load_model("ride")
    assert client.infer("ride", client.image(images.pixels[:1])).as_numpy("experts_used")
