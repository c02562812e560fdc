"""Checkpoints: round trip, replaced in one step, and everything else that a file may hold."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving.files import replacing
from tests.training.misfortunes import Trap, full_disk
from training.checkpoint import (
    FILE_NAME,
    Checkpoint,
    Position,
    Stage,
    load_checkpoint,
    load_finished,
    save_checkpoint,
)
from training.choices import DiversityForm
from training.config import LossConfig, ModelConfig
from training.data import ImageSet
from training.errors import CheckpointError
from training.loop import new_checkpoint
from training.presets import preset

pytestmark = pytest.mark.usefixtures("short_networks")

CONFIG = replace(
    preset("cifar10-lt"),
    seed=5,
    model=ModelConfig(num_classes=10, num_experts=2),
    loss=LossConfig(diversity=DiversityForm.PAIRWISE),
)


@pytest.fixture
def checkpoint(tiny: ImageSet) -> Checkpoint:
    """A run in the middle, with an optimiser's state."""
    checkpoint = new_checkpoint(CONFIG, tiny, {"commit": "abc", "versions": {"torch": "2"}})
    checkpoint.position = Position(Stage.ROUTERS, 1, 7)
    checkpoint.optimiser = {"state": {0: {"momentum_buffer": torch.rand(3)}}, "param_groups": []}
    return checkpoint


def assert_same(left: Checkpoint, right: Checkpoint) -> None:
    for field in ("config", "class_names", "class_counts", "position", "provenance"):
        assert getattr(left, field) == getattr(right, field)
    assert left.model.keys() == right.model.keys()
    assert all(torch.equal(left.model[name], right.model[name]) for name in left.model)
    buffers = [x.optimiser["state"][0]["momentum_buffer"] for x in (left, right)]
    assert torch.equal(*buffers)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path)
    assert_same(load_checkpoint(tmp_path), checkpoint)
    assert_same(load_checkpoint(tmp_path / FILE_NAME), checkpoint)


def test_it_holds_no_classes_of_this_package(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """So that torch alone opens it, without being told to trust anything."""
    save_checkpoint(checkpoint, tmp_path)
    torch.load(tmp_path / FILE_NAME, weights_only=True)


def test_the_model_is_rebuilt_in_eval_mode(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path)
    model = load_checkpoint(tmp_path).build_model()
    assert not model.training
    weights = model.state_dict()
    assert all(torch.equal(weights[name], checkpoint.model[name]) for name in checkpoint.model)


def saved(run: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a good checkpoint holds, for tests that damage a part of it."""
    save_checkpoint(checkpoint, run)
    content: dict[str, Any] = torch.load(run / FILE_NAME, weights_only=True)
    return content


def write(run: Path, content: object) -> None:
    torch.save(content, run / FILE_NAME)


def test_a_full_disk_leaves_the_old_checkpoint_whole(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(checkpoint, tmp_path)
    later = replace(checkpoint, position=Position(Stage.DONE))
    with full_disk(100_000), pytest.raises(CheckpointError, match=f"{FILE_NAME} could not be"):
        save_checkpoint(later, tmp_path)
    assert_same(load_checkpoint(tmp_path), checkpoint)
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failure_while_writing_leaves_no_trace(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises(error):
        fail()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]


def test_what_cant_be_saved_leaves_the_old_checkpoint_whole(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(checkpoint, tmp_path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(replace(checkpoint, provenance={"date": lambda: 0}), tmp_path)
    assert_same(load_checkpoint(tmp_path), checkpoint)
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_a_folder_that_is_gone_is_named(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"gone.*could not be written"):
        save_checkpoint(checkpoint, tmp_path / "gone")


def test_a_pickled_object_is_refused_and_not_run(tmp_path: Path, checkpoint: Checkpoint) -> None:
    trap = tmp_path / "run"
    write(tmp_path, {**saved(tmp_path, checkpoint), "provenance": Trap(trap)})
    with pytest.raises(CheckpointError, match=f"{FILE_NAME} holds something other than weights"):
        load_checkpoint(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, checkpoint: Checkpoint, share: float) -> None:
    save_checkpoint(checkpoint, tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


def test_a_single_flipped_bit_among_the_weights_is_noticed(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    save_checkpoint(checkpoint, tmp_path)
    damaged = bytearray((tmp_path / FILE_NAME).read_bytes())
    weights = checkpoint.model["experts.0.stage3.0.conv2.weight"].numpy().tobytes()
    damaged[damaged.index(weights) + len(weights) // 2] ^= 1
    (tmp_path / FILE_NAME).write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"damaged.*checksum"):
        load_checkpoint(tmp_path)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"random\.pt"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        {"weights": torch.zeros(3)},
        {"format": "ride-checkpoint-0"},
        [1, 2, 3],
        None,
    ],
)
def test_other_files_of_torch_are_refused(tmp_path: Path, content: object) -> None:
    write(tmp_path, content)
    with pytest.raises(CheckpointError, match="is not a checkpoint of ride train"):
        load_checkpoint(tmp_path)


def test_torchs_old_format_and_other_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    with path.open("wb") as file:
        np.savez(file, weights=np.zeros(3))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position", ["experts", 0]),
        ("position", ["resting", 0, 0]),
        ("position", None),
        ("class_names", ["one", "two"]),
        ("class_counts", [1, 2]),
        ("class_counts", ["a"] * 10),
        ("config", {"preset": "cifar10-lt", "colour": "red"}),
        ("config", replace(CONFIG, loss=LossConfig(prior_strengths=(1.0, 2.0, 3.0))).to_dict()),
        ("config", None),
    ],
)
def test_a_checkpoint_with_a_wrong_part_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, key: str, value: object
) -> None:
    write(tmp_path, {**saved(tmp_path, checkpoint), key: value})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("key", ["config", "class_names", "position", "model", "provenance"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, key: str
) -> None:
    content = saved(tmp_path, checkpoint)
    del content[key]
    write(tmp_path, content)
    with pytest.raises(CheckpointError, match=f"damaged: .*{key}"):
        load_checkpoint(tmp_path)


def test_where_there_is_no_checkpoint_that_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=f"there is no checkpoint {place}"):
            load_checkpoint(place)


@pytest.mark.parametrize(
    "model",
    [
        replace(CONFIG.model, num_experts=3),
        replace(CONFIG.model, num_experts=1),
        replace(CONFIG.model, reduced_width=False),
        replace(CONFIG.model, cosine_classifier=False),
    ],
)
def test_weights_of_another_model_are_refused(checkpoint: Checkpoint, model: ModelConfig) -> None:
    checkpoint.config = replace(CONFIG, model=model)
    with pytest.raises(CheckpointError, match="the weights do not fit") as caught:
        checkpoint.build_model()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [{}, {"a": torch.zeros(1)}, [1], None])
def test_weights_that_are_none_are_refused(checkpoint: Checkpoint, weights: Any) -> None:
    checkpoint.model = weights
    with pytest.raises(CheckpointError, match="the weights do not fit"):
        checkpoint.build_model()


def test_only_a_finished_run_is_loaded_as_finished(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match=r"it stands at routers, epoch 2, step 7.*--resume"):
        load_finished(tmp_path)
    save_checkpoint(replace(checkpoint, position=Position(Stage.DONE)), tmp_path)
    assert load_finished(tmp_path).position == Position(Stage.DONE)


GEAR = {
    "thresholds": [0.5],
    "mean_experts": 1.5,
    "mean_multiply_adds": 1e6,
    "accuracy": {"overall": 0.5, "many": 0.5, "medium": None, "few": None},
    "measured_on": "images",
}
BAD_ROUTING: dict[str, Any] = {
    "a list": [],
    "too many thresholds": {"thresholds": [0.5, 0.5]},
    "a threshold above 1": {"thresholds": [1.5]},
    "a threshold as text": {"thresholds": ["0.5"]},
    "gears of numbers": {"gears": {"fast": 1}},
    "a gear without thresholds": {"gears": {"fast": {}}},
    "a gear with too many thresholds": {"gears": {"fast": {**GEAR, "thresholds": [0.1, 0.2]}}},
    "a gear that is no number": {"gears": {"fast": {**GEAR, "mean_experts": float("nan")}}},
}


@pytest.mark.parametrize("routing", BAD_ROUTING.values(), ids=BAD_ROUTING)
def test_damaged_routing_is_refused(tmp_path: Path, checkpoint: Checkpoint, routing: Any) -> None:
    checkpoint.routing = routing
    save_checkpoint(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path)


def test_good_routing_is_kept(tmp_path: Path, checkpoint: Checkpoint) -> None:
    checkpoint.routing = {"thresholds": [0.25], "gears": {"fast": GEAR}}
    save_checkpoint(checkpoint, tmp_path)
    assert load_checkpoint(tmp_path).routing == checkpoint.routing
