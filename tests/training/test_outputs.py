"""Experts' outputs: what the model says, kept on disk, and never taken for another's."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.choices import RouterKind
from training.config import ModelConfig
from training.errors import DataError
from training.model import RideModel
from training.outputs import (
    Outputs,
    collect_outputs,
    experts_digest,
    load_outputs,
    prefix_logits,
    prefix_predictions,
    router_scores,
    save_outputs,
)

CPU = torch.device("cpu")
CONFIG = ModelConfig(num_classes=5, num_experts=3, router_top_logits=5)


def batches(*sizes: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (sum(sizes), 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(5, (sum(sizes),), generator=generator)
    yield from zip(torch.split(images, list(sizes)), torch.split(labels, list(sizes)), strict=True)


def made(experts: int, images: int) -> Outputs:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(experts, images, 5)).astype(np.float32)
    embeddings = generator.normal(size=(experts, images, 48)).astype(np.float32)
    return Outputs(logits, embeddings, generator.integers(0, 5, images))


def test_outputs_are_what_the_model_says_in_the_order_of_the_images() -> None:
    model = RideModel(CONFIG).eval()
    outputs = collect_outputs(model, batches(3, 1, 2), CPU)
    ((images, labels),) = batches(6)
    with torch.no_grad():
        expected = model(images.permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(outputs.logits, expected.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(outputs.embeddings, expected.embeddings.numpy(), rtol=1e-4)
    assert outputs.labels.tolist() == labels.tolist()
    assert outputs.logits.dtype == np.float32
    assert outputs.labels.dtype == np.int64
    assert len(outputs) == 6


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        collect_outputs(RideModel(CONFIG), iter(()), CPU)


def test_predictions_are_those_of_the_corrected_means() -> None:
    outputs = made(3, 1_500)
    corrections = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    predictions = prefix_predictions(outputs, corrections)
    for k in range(3):
        means = outputs.logits[: k + 1].astype(np.float64).mean(axis=0) + corrections[k]
        np.testing.assert_allclose(prefix_logits(outputs, corrections)[k], means, atol=1e-5)
        assert (predictions[k] == means.argmax(axis=1)).mean() > 0.999


@pytest.mark.parametrize("kind", RouterKind)
def test_scores_are_what_each_router_says_of_its_prefix(kind: RouterKind) -> None:
    model = RideModel(replace(CONFIG, router_kind=kind)).eval()
    outputs = made(3, 1_100)
    corrections = np.full((3, 5), [1, 0, 0, 0, -1], dtype=np.float32)
    scores = router_scores(model.routers, outputs, CPU, corrections)
    assert scores.shape == (2, 1_100)
    assert scores.dtype == np.float32
    for i, router in enumerate(model.routers):
        prefix = torch.from_numpy(outputs.logits[: i + 1].mean(axis=0) + corrections[i])
        with torch.no_grad():
            expected = router(torch.from_numpy(outputs.embeddings[i]), prefix)
        np.testing.assert_allclose(scores[i], expected.numpy(), atol=1e-4)


def test_one_expert_has_no_scores() -> None:
    model = RideModel(replace(CONFIG, num_experts=1))
    assert router_scores(model.routers, made(1, 4), CPU).shape == (0, 4)


def test_kept_outputs_come_back_under_their_own_key_only(tmp_path: Path) -> None:
    path, outputs = tmp_path / "outputs.npz", made(2, 7)
    save_outputs(outputs, "mine", path)
    kept = load_outputs("mine", path)
    assert kept is not None
    np.testing.assert_array_equal(kept.logits, outputs.logits)
    np.testing.assert_array_equal(kept.embeddings, outputs.embeddings)
    np.testing.assert_array_equal(kept.labels, outputs.labels)
    assert load_outputs("yours", path) is None
    assert load_outputs("mine", tmp_path / "nothing.npz") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY" + b"\x00" * 50])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outputs.npz"
    path.write_bytes(content)
    assert load_outputs("mine", path) is None


def test_a_file_cut_short_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    save_outputs(made(2, 7), "mine", path)
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert load_outputs("mine", path) is None


class Payload:
    """What a pickle would run when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was opened",))


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    path.write_bytes(pickle.dumps(Payload()))
    assert load_outputs("mine", path) is None
    hidden = np.array([Payload()], dtype=object)
    np.savez(path, key=np.array("mine"), logits=hidden, embeddings=hidden, labels=hidden)
    assert load_outputs("mine", path) is None


def test_the_digest_follows_the_experts_and_not_the_routers() -> None:
    model = RideModel(CONFIG)
    digest = experts_digest(model)
    with torch.no_grad():
        model.routers[0].hidden.bias.add_(1)  # type: ignore[operator, union-attr]
    assert experts_digest(model) == digest
    with torch.no_grad():
        model.experts[2].classifier.weight[0, 0] += 1  # type: ignore[index, operator, union-attr]
    assert experts_digest(model) != digest
