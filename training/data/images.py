"""What training and evaluation read: images with labels, decoded or still encoded."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from serving.images.formats import BY_DEFAULT
from training.data.decoding import decode_image
from training.data.sources import Source


class LabelledImages(ABC):
    """N images in a fixed order, their labels and the names of the classes.

    `labels` is int64 [N]; `class_names` has one name a class; `description` says in a few words
    where the images come from, for reports: "the test split".
    """

    labels: Tensor
    class_names: tuple[str, ...]
    description: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class, in class order."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        return tuple(counts.tolist())

    @abstractmethod
    def subset(self, rows: Tensor) -> Self:
        """The images at `rows` (int64 [M]), in that order."""

    @abstractmethod
    def described(self, description: str) -> Self:
        """The same images with another description."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of labels, class names and images: whether a data set has changed.

        Images are told apart by their pixels if they are decoded, by their bytes if they come from
        Parquet, by path and size if they are files.
        """

    def _digest_of_labels(self) -> hashlib._Hash:
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        digest.update(self.labels.contiguous().numpy().data)
        return digest


@dataclass(frozen=True)
class ImageSet(LabelledImages):
    """Decoded images of one size, for sets that fit into memory that way.

    Shapes: images uint8 [N, H, W, 3] (RGB), labels int64 [N], one name a class.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    description: str = ""

    def subset(self, rows: Tensor) -> ImageSet:
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def described(self, description: str) -> ImageSet:
        return replace(self, description=description)

    def fingerprint(self) -> str:
        digest = self._digest_of_labels()
        digest.update(str(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class EncodedSet(LabelledImages):
    """Image files that are decoded when asked, for sets that are too large otherwise.

    Image i of the set is image `rows[i]` of the source. Shapes: rows and labels int64 [N].
    `formats` are those that are decoded (`serving.images.formats`).
    """

    source: Source
    rows: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    description: str = ""
    formats: tuple[str, ...] = BY_DEFAULT

    def subset(self, rows: Tensor) -> EncodedSet:
        return replace(self, rows=self.rows[rows], labels=self.labels[rows])

    def described(self, description: str) -> EncodedSet:
        return replace(self, description=description)

    def decode(self, row: int) -> Image.Image:
        """Image `row` of the set, RGB and upright.

        Raises:
            DataError: if it can't be read or is no image, naming its file or row.
        """
        index = int(self.rows[row])
        return decode_image(self.source.read(index), self.source.name(index), self.formats)

    def fingerprint(self) -> str:
        digest = self._digest_of_labels()
        for index in self.rows.tolist():
            identity = self.source.identity(index)
            digest.update(len(identity).to_bytes(8, "little"))
            digest.update(identity)
        return digest.hexdigest()
