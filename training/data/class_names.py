"""What classes are called, where the images themselves don't say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from training.errors import DataError

LISTING = "classes.txt"


def listed_names(directory: Path) -> tuple[str, ...] | None:
    """The lines of `classes.txt` in the folder, in the order of the labels; None without it.

    Raises:
        DataError: if it is no UTF-8 text or empty.
    """
    path = directory / LISTING
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as UTF-8 text: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path} names no classes")
    return names


def count_classes(labels: Tensor, where: Path) -> int:
    """How many classes training labels (int64 [N], not empty) are of: all up to the largest.

    Raises:
        DataError: if there are fewer images than that, so that a class must be empty.
    """
    classes = int(labels.max()) + 1
    if classes > len(labels):
        raise DataError(
            f"{where} has labels up to {classes - 1} and only {len(labels)} images: "
            "some classes have none"
        )
    return classes


def numbered(num_classes: int) -> tuple[str, ...]:
    """The numbers of the classes, for want of names."""
    return tuple(str(label) for label in range(num_classes))


def in_counting_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names in the order in which people count: `2` before `10`, `v2` before `v10`."""
    return tuple(sorted(names, key=lambda name: (_words_and_numbers(name), name)))


def _words_and_numbers(name: str) -> list[tuple[int, str]]:
    # Digits compare by how many they are, then as text: numbers of any length.
    parts = re.split("([0-9]+)", name)
    bare = (part.lstrip("0") if i % 2 else part for i, part in enumerate(parts))
    return [(len(part) if i % 2 else 0, part) for i, part in enumerate(bare)]
