"""Batches on the device: small sets from its memory, large ones decoded by worker processes.

Every random draw belongs to an image of a batch plan and is seeded by the plan. So batches depend
neither on the number of workers nor on the batches before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from training.augmentation.batch import augment_batch
from training.augmentation.images import evaluation_transform, training_transform
from training.choices import OnUnreadable, Policy
from training.config import AugmentationConfig, DataConfig
from training.data.images import EncodedSet, ImageSet, LabelledImages
from training.data.workers import Workers
from training.errors import DataError

_SEED_BOUND = 2**63 - 1


@dataclass(frozen=True)
class BatchPlan:
    """Which images make a batch (`rows`, int64 [N]), the seed of its draws, and its image size."""

    rows: Tensor
    seed: int
    image_size: int


@dataclass(frozen=True)
class Batch:
    """Augmented images and their labels, on the device.

    `views` holds fp32 [N, 3, H, W] in [0, 1], channels last in memory: one, or a strong and a weak
    one of the same images. `labels` is int64 [N].
    """

    views: tuple[Tensor, ...]
    labels: Tensor


class Loader(Protocol):
    """Makes batches of plans, in their order.

    `unreadable` has a message for each image that could not be read and was replaced so far.
    """

    unreadable: dict[int, str]

    def batches(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        """One batch a plan. Plans are taken some batches ahead of what is returned.

        Raises:
            DataError: if an image can't be read and the loader was made to stop at that, or if
                no image of a batch can be read.
        """


def make_loader(
    images: LabelledImages,
    augmentation: AugmentationConfig,
    data: DataConfig,
    device: torch.device,
    *,
    workers: int,
    two_views: bool,
    on_unreadable: OnUnreadable,
) -> Loader:
    """The loader that suits the images: `DeviceLoader` for decoded ones, else `WorkerLoader`.

    With `two_views` a batch has a strong view, augmented as configured, and a weak one, augmented
    by the standard policy without Cutout. `workers` is the number of worker processes; with 0,
    images are decoded in this one.
    """
    views = (augmentation, _weak(augmentation)) if two_views else (augmentation,)
    if isinstance(images, ImageSet):
        return DeviceLoader(images, views, device)
    assert isinstance(images, EncodedSet), "there are two kinds of images"
    return WorkerLoader(
        images, views, data, device, workers=workers, stop=on_unreadable is OnUnreadable.STOP
    )


class DeviceLoader:
    """Augments batches of decoded images on the device, in whose memory all of them are."""

    def __init__(
        self, images: ImageSet, views: tuple[AugmentationConfig, ...], device: torch.device
    ) -> None:
        self.unreadable: dict[int, str] = {}
        self._images = images.images.to(device)
        self._labels = images.labels.to(device)
        self._views = views

    def batches(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        """One batch a plan."""
        for plan in plans:
            # Without waiting: the device is busy with the step before.
            rows = plan.rows.to(self._images.device, non_blocking=True)
            images = self._images[rows]
            generator = torch.Generator().manual_seed(plan.seed)
            views = tuple(
                augment_batch(images, view, generator, plan.image_size) for view in self._views
            )
            yield Batch(views, self._labels[rows])


class WorkerLoader:
    """Decodes and augments images one by one, in worker processes that stay between calls."""

    def __init__(
        self,
        images: EncodedSet,
        views: tuple[AugmentationConfig, ...],
        data: DataConfig,
        device: torch.device,
        *,
        workers: int,
        stop: bool,
    ) -> None:
        self.unreadable: dict[int, str] = {}
        self._device = device
        self._stop = stop
        self._workers = Workers(_Training(images, views, data), workers, device)

    def batches(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        """One batch a plan."""
        for decoded in self._workers.results(plans):
            if decoded.unreadable:
                self._require_some(decoded)
            self.unreadable |= decoded.unreadable
            views = tuple(_to_unit_range(view, self._device) for view in decoded.views)
            yield Batch(views, decoded.labels.to(self._device, non_blocking=True))

    def _require_some(self, decoded: _Decoded) -> None:
        first = next(iter(decoded.unreadable.values()))
        if self._stop:
            raise DataError(
                f"{first}. To train without images that can't be read: --unreadable skip"
            )
        if not len(decoded.labels):
            raise DataError(
                f"{first}. Nor can any other image of its batch be read: see to the data"
            )


def plain_batches(
    images: LabelledImages,
    data: DataConfig,
    device: torch.device,
    batch_size: int,
    *,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, as they are evaluated: uint8 [N, S, S, 3] and labels int64 [N].

    The shorter side is resized (with antialiasing) and the centre cut out, as the server does it.
    Decoded images are not worth a worker process.

    Raises:
        DataError: if an image can't be read.
    """
    plans = torch.split(torch.arange(len(images)), batch_size)
    if isinstance(images, ImageSet):
        plain: Iterable[_Decoded] = map(_PlainDecoded(images, data), plans)
    else:
        assert isinstance(images, EncodedSet), "there are two kinds of images"
        plain = Workers(_PlainEncoded(images, data), workers, device).results(plans)
    for decoded in plain:
        for message in decoded.unreadable.values():
            raise DataError(message)
        (view,) = decoded.views
        yield view.to(device, non_blocking=True), decoded.labels.to(device, non_blocking=True)


class _Decoded(NamedTuple):
    """What a worker process makes of a plan: uint8 views and labels, all in (pinned) memory.

    `unreadable` says what was wrong, by row. A worker returns it instead of raising, because
    PyTorch would wrap the error in a traceback.
    """

    views: Sequence[Tensor]
    labels: Tensor
    unreadable: dict[int, str]


class _Training:
    """Plan -> augmented views, uint8 [N, 3, S, S]."""

    def __init__(
        self, images: EncodedSet, views: tuple[AugmentationConfig, ...], data: DataConfig
    ) -> None:
        self._images = images
        self._views = views
        self._data = data

    def __call__(self, plan: BatchPlan) -> _Decoded:
        data = replace(self._data, image_size=plan.image_size)
        transforms = [training_transform(view, data) for view in self._views]
        generator = torch.Generator().manual_seed(plan.seed)
        seeds = torch.randint(_SEED_BOUND, (len(plan.rows),), generator=generator).tolist()
        chosen, views, unreadable = [], [], dict[int, str]()
        for place, seed in enumerate(seeds):
            row, image = self._readable_from(plan.rows.roll(-place).tolist(), unreadable)
            if image is None:
                return _nothing(unreadable)
            draws = torch.Generator().manual_seed(seed)
            chosen.append(row)
            views.append([transform(image, draws) for transform in transforms])
        stacked = [torch.stack(view) for view in zip(*views, strict=True)]
        return _Decoded(stacked, self._images.labels[chosen], unreadable)

    def _readable_from(
        self, rows: list[int], unreadable: dict[int, str]
    ) -> tuple[int, Image.Image | None]:
        """The first of the rows that can be read; it takes the place of those before it."""
        for row in rows:
            if row not in unreadable:
                try:
                    return row, self._images.decode(row)
                except DataError as error:
                    unreadable[row] = str(error)
        return rows[0], None


class _PlainEncoded:
    """Rows -> images as they are evaluated, uint8 [N, S, S, 3]."""

    def __init__(self, images: EncodedSet, data: DataConfig) -> None:
        self._images = images
        self._transform = evaluation_transform(data)

    def __call__(self, rows: Tensor) -> _Decoded:
        plain = []
        for row in rows.tolist():
            try:
                image = self._images.decode(row)
            except DataError as error:
                return _nothing({row: str(error)})
            plain.append(self._transform(image).permute(1, 2, 0))
        return _Decoded([torch.stack(plain)], self._images.labels[rows], {})


class _PlainDecoded:
    """The same for images that are decoded already; those of the right size stay as they are."""

    def __init__(self, images: ImageSet, data: DataConfig) -> None:
        self._images = images
        self._transform = evaluation_transform(data)
        size = (data.image_size, data.image_size)
        fits = data.resize_shorter_side == data.image_size
        self._finished = fits and images.images.shape[1:3] == size

    def __call__(self, rows: Tensor) -> _Decoded:
        images = self._images.images[rows]
        if not self._finished:
            files = (Image.fromarray(image.numpy()) for image in images)
            images = torch.stack([self._transform(file).permute(1, 2, 0) for file in files])
        return _Decoded([images], self._images.labels[rows], {})


def _weak(augmentation: AugmentationConfig) -> AugmentationConfig:
    return replace(augmentation, policy=Policy.STANDARD, cutout=0)


def _nothing(unreadable: dict[int, str]) -> _Decoded:
    return _Decoded([], torch.empty(0, dtype=torch.int64), unreadable)


def _to_unit_range(view: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, 3, S, S] -> fp32 in [0, 1] on the device."""
    moved = view.to(device, non_blocking=True)
    return moved.to(torch.float32, memory_format=torch.channels_last) / 255.0
