"""Batches: from memory and from worker processes, whatever their number; unreadable images."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.augmentation.batch import augment_batch
from training.choices import Dataset, OnUnreadable, Policy
from training.config import AugmentationConfig, DataConfig
from training.data.images import EncodedSet, ImageSet, LabelledImages
from training.data.loading import BatchPlan, Loader, make_loader, plain_batches
from training.data.sources import Files
from training.errors import DataError

CPU = torch.device("cpu")
DATA = DataConfig(
    dataset=Dataset.IMAGE_FOLDER, imbalance_factor=None, image_size=8, resize_shorter_side=10
)
STRONG = AugmentationConfig(Policy.RANDAUGMENT, cutout=4, color_jitter=0.4)
PLAIN = AugmentationConfig(Policy.NONE)


@pytest.fixture
def files(tmp_path: Path) -> EncodedSet:
    """Twelve noisy images of different sizes."""
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = random.integers(0, 256, (14 + index, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    source = Files(tmp_path, tuple(f"{index}.png" for index in range(12)))
    return EncodedSet(source, torch.arange(12), torch.arange(12) % 3, ("a", "b", "c"))


@pytest.fixture
def decoded() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(12) % 3, ("a", "b", "c"))


@pytest.fixture(params=["files", "decoded"])
def images(request: pytest.FixtureRequest) -> LabelledImages:
    chosen: LabelledImages = request.getfixturevalue(request.param)
    return chosen


def loader(
    images: LabelledImages,
    augmentation: AugmentationConfig = STRONG,
    *,
    workers: int = 0,
    two_views: bool = False,
    on_unreadable: OnUnreadable = OnUnreadable.STOP,
) -> Loader:
    return make_loader(
        images,
        augmentation,
        DATA,
        CPU,
        workers=workers,
        two_views=two_views,
        on_unreadable=on_unreadable,
    )


def plans(count: int = 4, size: int = 8) -> list[BatchPlan]:
    draw = torch.Generator().manual_seed(1)
    return [BatchPlan(torch.randperm(12, generator=draw)[:5], seed, size) for seed in range(count)]


def test_batches_are_unit_range_images_and_labels_of_the_plans(images: LabelledImages) -> None:
    wanted = plans()
    for plan, batch in zip(wanted, loader(images).batches(wanted), strict=True):
        (view,) = batch.views
        assert view.shape == (5, 3, 8, 8)
        assert view.dtype == torch.float32
        assert 0 <= view.min() < view.max() <= 1
        assert torch.equal(batch.labels, images.labels[plan.rows])


def test_a_batch_depends_on_its_plan_alone(images: LabelledImages) -> None:
    whole = [batch.views[0] for batch in loader(images).batches(plans())]
    later = [batch.views[0] for batch in loader(images).batches(plans()[2:])]
    assert all(torch.equal(*pair) for pair in zip(whole[2:], later, strict=True))
    reseeded = [replace(plan, seed=plan.seed + 10) for plan in plans()]
    others = [batch.views[0] for batch in loader(images).batches(reseeded)]
    assert not any(torch.equal(*pair) for pair in zip(whole, others, strict=True))


def test_the_global_generator_is_left_alone(images: LabelledImages) -> None:
    before = torch.random.get_rng_state()
    for _ in loader(images, two_views=True).batches(plans()):
        torch.rand(1, generator=torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    first = next(iter(loader(images).batches(plans()))).views[0]
    torch.manual_seed(6)
    assert torch.equal(first, next(iter(loader(images).batches(plans()))).views[0])


def test_a_plan_decides_the_size_of_its_images(images: LabelledImages) -> None:
    sizes = [
        batch.views[0].shape[-1]
        for size in (6, 8)
        for batch in loader(images).batches(plans(1, size))
    ]
    assert sizes == [6, 8]


def test_an_image_twice_in_a_batch_is_augmented_twice(images: LabelledImages) -> None:
    plan = BatchPlan(torch.tensor([3, 3]), 0, 8)
    (batch,) = loader(images).batches([plan])
    assert not torch.equal(batch.views[0][0], batch.views[0][1])


def test_two_views_are_a_strong_and_a_weak_one_of_the_same_images(images: LabelledImages) -> None:
    cut = AugmentationConfig(Policy.NONE, cutout=64)  # blanks everything
    (batch,) = loader(images, cut, two_views=True).batches(plans(1))
    strong, weak = batch.views
    assert strong.flatten(1).var(dim=1).max() == 0
    assert weak.flatten(1).var(dim=1).min() > 0
    (alone,) = loader(images, cut).batches(plans(1))
    assert torch.equal(alone.views[0], strong)


def test_the_weak_view_is_drawn_by_the_standard_policy(decoded: ImageSet) -> None:
    (batch,) = loader(decoded, PLAIN, two_views=True).batches(plans(1))
    rows, generator = plans(1)[0].rows, torch.Generator().manual_seed(0)
    strong = augment_batch(decoded.images[rows], PLAIN, generator, 8)
    weak = augment_batch(decoded.images[rows], AugmentationConfig(), generator, 8)
    assert torch.equal(batch.views[0], strong)
    assert torch.equal(batch.views[1], weak)


def all_of(loader: Loader, wanted: list[BatchPlan]) -> list[Tensor]:
    tensors = []
    for batch in loader.batches(wanted):
        tensors += [*batch.views, batch.labels]
    return tensors


def test_the_number_of_workers_changes_nothing(files: EncodedSet) -> None:
    (files_at(files) / "4.png").write_bytes(b"damaged")
    none, two = (
        loader(files, workers=workers, two_views=True, on_unreadable=OnUnreadable.SKIP)
        for workers in (0, 2)
    )
    expected, got = all_of(none, plans(6)), all_of(two, plans(6))
    assert len(got) == 18
    assert all(torch.equal(*pair) for pair in zip(expected, got, strict=True))
    assert two.unreadable == none.unreadable != {}


def test_workers_stay_after_an_unfinished_call_and_after_ctrl_c(files: EncodedSet) -> None:
    two = loader(files, workers=2)
    first = [batch.views[0] for batch in islice(two.batches(plans(6)), 2)]  # both are at work
    workers = [child.pid for child in multiprocessing.active_children()]
    for pid in workers:
        assert pid is not None
        os.kill(pid, signal.SIGINT)
    again = [batch.views[0] for batch in two.batches(plans(6))]
    assert len(again) == 6
    assert torch.equal(first[0], again[0])
    assert [child.pid for child in multiprocessing.active_children()] == workers


def test_plans_may_come_from_a_generator(files: EncodedSet) -> None:
    def drawn() -> Iterator[BatchPlan]:
        yield from plans(3)

    assert len(list(loader(files).batches(drawn()))) == 3


def files_at(files: EncodedSet) -> Path:
    assert isinstance(files.source, Files)
    return files.source.root


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_training_and_is_named(files: EncodedSet, workers: int) -> None:
    (files_at(files) / "7.png").write_bytes(b"damaged")
    plan = BatchPlan(torch.tensor([1, 7, 2]), 0, 8)
    with pytest.raises(DataError) as caught:
        list(loader(files, workers=workers).batches([plan]))
    path = files_at(files) / "7.png"
    assert str(caught.value).startswith(f"{path}: the bytes are text, which is not accepted; send ")
    assert str(caught.value).endswith("--unreadable skip")


def test_an_unreadable_image_is_replaced_by_the_next_one_of_its_batch(files: EncodedSet) -> None:
    for name in ("7.png", "2.png"):
        (files_at(files) / name).unlink()
    skipping = loader(files, PLAIN, on_unreadable=OnUnreadable.SKIP)
    damaged = BatchPlan(torch.tensor([1, 7, 2, 3, 2]), 0, 8)
    (batch,) = skipping.batches([damaged])
    (expected,) = loader(files, PLAIN).batches(
        [replace(damaged, rows=torch.tensor([1, 3, 3, 3, 1]))]
    )
    assert torch.equal(batch.views[0], expected.views[0])
    assert torch.equal(batch.labels, expected.labels)
    assert set(skipping.unreadable) == {7, 2}
    assert skipping.unreadable[7] == f"{files_at(files) / '7.png'} is missing or no file"


def test_unreadable_images_are_counted_once_over_many_batches(files: EncodedSet) -> None:
    (files_at(files) / "7.png").unlink()
    skipping = loader(files, on_unreadable=OnUnreadable.SKIP)
    for _ in range(2):
        assert len(list(skipping.batches([BatchPlan(torch.arange(12), 0, 8)] * 3))) == 3
    assert list(skipping.unreadable) == [7]


def test_a_batch_without_any_readable_image_stops_training(files: EncodedSet) -> None:
    for name in ("7.png", "2.png"):
        (files_at(files) / name).unlink()
    skipping = loader(files, on_unreadable=OnUnreadable.SKIP)
    with pytest.raises(DataError, match=r"7\.png is missing"):
        list(skipping.batches([BatchPlan(torch.tensor([7, 2, 7]), 0, 8)]))


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_resizes_and_cuts_out_the_centre(files: EncodedSet, workers: int) -> None:
    batches = list(plain_batches(files, DATA, CPU, 5, workers=workers))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    plain, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert plain.dtype == torch.uint8
    assert torch.equal(labels, files.labels)
    for row in range(12):
        image = files.decode(row)
        width, height = (
            (10, int(10 * image.height / image.width))
            if image.width <= image.height
            else (int(10 * image.width / image.height), 10)
        )
        left, top = round((width - 8) / 2), round((height - 8) / 2)
        small = image.resize((width, height), Image.Resampling.BILINEAR)
        expected = np.asarray(small.crop((left, top, left + 8, top + 8)))
        assert np.array_equal(plain[row].numpy(), expected)


def test_evaluation_leaves_decoded_images_of_the_right_size_alone(decoded: ImageSet) -> None:
    ready = replace(DATA, resize_shorter_side=8)
    batches = list(plain_batches(decoded, ready, CPU, 7))
    assert torch.equal(torch.cat([images for images, _ in batches]), decoded.images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), decoded.labels)


def test_evaluation_resizes_decoded_images_like_files(decoded: ImageSet, tmp_path: Path) -> None:
    for row in range(12):
        Image.fromarray(decoded.images[row].numpy()).save(tmp_path / f"{row}.png")
    source = Files(tmp_path, tuple(f"{row}.png" for row in range(12)))
    encoded = EncodedSet(source, torch.arange(12), decoded.labels, decoded.class_names)
    for one, other in zip(
        plain_batches(decoded, DATA, CPU, 6), plain_batches(encoded, DATA, CPU, 6), strict=True
    ):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_stops_at_an_unreadable_image(files: EncodedSet, workers: int) -> None:
    (files_at(files) / "9.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"9\.png: the bytes are text, .* WebP or AVIF file$"):
        list(plain_batches(files, DATA, CPU, 5, workers=workers))


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_on_the_cpu(files: EncodedSet) -> None:
    on_cpu = all_of(loader(files), plans())
    on_gpu = make_loader(
        files,
        STRONG,
        DATA,
        torch.device("cuda"),
        workers=2,
        two_views=False,
        on_unreadable=OnUnreadable.STOP,
    )
    for expected, got in zip(on_cpu, all_of(on_gpu, plans()), strict=True):
        assert got.is_cuda
        assert torch.equal(got.cpu(), expected)
