"""The images that `ride route` needs, each set with a word that tells it from any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.choices import OnUnreadable, Policy
from training.config import AugmentationConfig, TrainingConfig
from training.data import LabelledImages, Split, read_split
from training.data.loading import BatchPlan, make_loader, plain_batches

_BATCH_SIZE = 500
_MAX_VIEWS = 20_000
_CPU = torch.device("cpu")


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


def route_images(
    directory: Path, config: TrainingConfig, classes: Sequence[str], *, workers: int = 0
) -> RouteImages:
    """Open all three sets for a run that knows these classes.

    `workers` processes decode images of large data sets.

    Raises:
        DataError: if the data folder is not what it should be.
        ConfigError: if there are no images that were neither trained on nor are tested on.
    """
    train = read_split(directory, config.data, Split.TRAIN, classes)
    calibration = read_split(directory, config.data, Split.CALIBRATION, classes)
    test = read_split(directory, config.data, Split.TEST, classes)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed))
    return RouteImages(
        _augmented(train.subset(order[:_MAX_VIEWS]), config, workers),
        _plain("calibration", calibration, config, workers),
        _plain("test", test, config, workers),
        f"{len(calibration):,} images: {calibration.description}",
    )


def _plain(name: str, images: LabelledImages, config: TrainingConfig, workers: int) -> ImageBatches:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return plain_batches(images, config.data, _CPU, _BATCH_SIZE, workers=workers)

    return ImageBatches(name, images.fingerprint(), len(images), batches)


def _augmented(images: LabelledImages, config: TrainingConfig, workers: int) -> ImageBatches:
    """Strong views, since the experts know the training images by heart, and weak views too."""
    strong = AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=config.data.image_size // 4)
    loader = make_loader(
        images,
        strong,
        config.data,
        _CPU,
        workers=workers,
        two_views=False,
        on_unreadable=OnUnreadable.SKIP,
    )
    size = config.data.image_size

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.split(torch.arange(len(images)), _BATCH_SIZE)
        plans = [BatchPlan(part, config.seed + i, size) for i, part in enumerate(rows)]
        for batch in loader.batches(plans):
            yield (batch.views[0] * 255).round().byte().permute(0, 2, 3, 1), batch.labels

    return ImageBatches(
        "views", f"{images.fingerprint()} {strong} {config.seed}", len(images), batches
    )
