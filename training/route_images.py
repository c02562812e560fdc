"""The images that `ride route` needs, each set with a word that tells it from any other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.augmentation import augment, to_unit_range
from training.config import TrainingConfig
from training.data import ImageSet, long_tailed_subset, read_split

_BATCH_SIZE = 500
_MAX_VIEWS = 20_000
_MAX_CALIBRATION_PER_CLASS = 50


@dataclass(frozen=True)
class ImageBatches:
    """Batches that can be made again: uint8 [N, H, W, 3] and labels int64 [N].

    `fingerprint` differs wherever the images do.
    """

    name: str
    fingerprint: str
    images: int
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class RouteImages:
    """What routers are fitted, chosen and measured on.

    Attributes:
        views: augmented views of training images, which the experts do not know by heart.
        calibration: images that were neither trained on nor are tested on.
        test: the test split.
        calibration_source: where the calibration images come from, in words.
    """

    views: ImageBatches
    calibration: ImageBatches
    test: ImageBatches
    calibration_source: str


def route_images(directory: Path, config: TrainingConfig) -> RouteImages:
    """Open all three sets.

    Raises:
        DataError: if the data folder is not what it should be.
    """
    full = read_split(directory, config.data.dataset, "train")
    rows = ImageSet(torch.arange(len(full)), full.labels, full.class_names)
    taken = long_tailed_subset(rows, config.data).images
    left = _left_over(full.labels, taken, config.seed)
    views = full.subset(taken)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(config.seed))
    return RouteImages(
        _augmented(views.subset(order[:_MAX_VIEWS]), config.seed),
        _plain("calibration", full.subset(left)),
        _plain("test", read_split(directory, config.data.dataset, "test")),
        f"{len(left):,} images of the training split that the long-tailed subset leaves out",
    )


def _left_over(labels: Tensor, taken: Tensor, seed: int) -> Tensor:
    free = torch.ones(len(labels), dtype=torch.bool)
    free[taken] = False
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[free[order]]
    return torch.cat(
        [order[labels[order] == label][:_MAX_CALIBRATION_PER_CLASS] for label in labels.unique()]
    )


def _plain(name: str, images: ImageSet) -> ImageBatches:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        pairs = images.images.split(_BATCH_SIZE), images.labels.split(_BATCH_SIZE)
        yield from zip(*pairs, strict=True)

    return ImageBatches(name, _fingerprint(images), len(images), batches)


def _augmented(images: ImageSet, seed: int) -> ImageBatches:
    plain = _plain("views", images)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for batch, labels in plain.batches():
            views = augment(to_unit_range(batch), generator) * 255
            yield views.round().byte().permute(0, 2, 3, 1), labels

    return ImageBatches("views", f"{plain.fingerprint} {seed}", len(images), batches)


def _fingerprint(images: ImageSet) -> str:
    digest = hashlib.sha256(images.images.numpy().tobytes())
    digest.update(images.labels.numpy().tobytes())
    return digest.hexdigest()
