"""What training and evaluation read: images with labels, decoded or still encoded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from PIL import Image
from torch import Tensor

from training.data.decoding import decode_image
from training.data.sources import Source


class LabelledImages(Protocol):
    """N images in a fixed order, their labels and the names of the classes.

    `description` says in a few words where the images come from, for reports: "the test split".
    """

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""

    @property
    def description(self) -> str:
        """Where the images come from."""

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class, in class order."""

    def __len__(self) -> int: ...

    def subset(self, rows: Tensor) -> Self:
        """The images at `rows` (int64 [M]), in that order."""

    def described(self, description: str) -> Self:
        """The same images with another description."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) of labels, class names and images: whether a data set has changed.

        Images are told apart by their pixels if they are decoded, by their bytes if they come from
        Parquet, by path and size if they are files.
        """


@dataclass(frozen=True)
class ImageSet:
    """Decoded images of one size, for sets that fit into memory that way.

    Shapes: images uint8 [N, H, W, 3] (RGB), labels int64 [N], one name a class.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    description: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class, in class order."""
        return _class_counts(self)

    def subset(self, rows: Tensor) -> ImageSet:
        """The images at `rows` (int64 [M]), in that order."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def described(self, description: str) -> ImageSet:
        """The same images with another description."""
        return replace(self, description=description)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of labels, class names and pixels."""
        digest = _digest_of_labels(self)
        digest.update(str(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class EncodedSet:
    """Image files that are decoded when asked, for sets that are too large otherwise.

    Image i of the set is image `rows[i]` of the source. Shapes: rows and labels int64 [N].
    """

    source: Source
    rows: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    description: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class, in class order."""
        return _class_counts(self)

    def subset(self, rows: Tensor) -> EncodedSet:
        """The images at `rows` (int64 [M]), in that order."""
        return replace(self, rows=self.rows[rows], labels=self.labels[rows])

    def described(self, description: str) -> EncodedSet:
        """The same images with another description."""
        return replace(self, description=description)

    def decode(self, row: int) -> Image.Image:
        """Image `row` of the set, RGB and upright.

        Raises:
            DataError: if it can't be read or is no image, naming its file or row.
        """
        index = int(self.rows[row])
        return decode_image(self.source.read(index), self.source.name(index))

    def fingerprint(self) -> str:
        """SHA-256 (hex) of labels, class names and what the source knows an image by."""
        digest = _digest_of_labels(self)
        for index in self.rows.tolist():
            identity = self.source.identity(index)
            digest.update(len(identity).to_bytes(8, "little"))
            digest.update(identity)
        return digest.hexdigest()


def _class_counts(images: LabelledImages) -> tuple[int, ...]:
    counts = torch.bincount(images.labels, minlength=len(images.class_names))
    return tuple(counts.tolist())


def _digest_of_labels(images: LabelledImages) -> hashlib._Hash:
    digest = hashlib.sha256(json.dumps(images.class_names).encode())
    digest.update(images.labels.contiguous().numpy().data)
    return digest
