"""What classes are called, where the images themselves don't say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from serving.files import as_text
from training.errors import DataError

LISTING = "classes.txt"


def listed_names(directory: Path) -> tuple[str, ...] | None:
    """The lines of `classes.txt` in the folder, in the order of the labels; None without it.

    Raises:
        DataError: if it is no text or empty.
    """
    path = directory / LISTING
    if not path.is_file():
        return None
    try:
        with as_text(path.open("rb")) as text:
            names = tuple(name for line in text if (name := line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text, UTF-8 or UTF-16: {error}") from error
    if not names:
        raise DataError(f"{path} names no classes")
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names as people sort them: 1, 2, 10, where computers put 10 before 2."""
    return tuple(sorted(names, key=lambda name: (_words_and_numbers(name), name)))


def _words_and_numbers(name: str) -> list[tuple[int, str]]:
    # Digits compare by how many they are, then as text: numbers of any length.
    parts = re.split("([0-9]+)", name)
    bare = (part.lstrip("0") if i % 2 else part for i, part in enumerate(parts))
    return [(len(part) if i % 2 else 0, part) for i, part in enumerate(bare)]


def require_order(found: Sequence[str], known: Sequence[str], where: str, advice: str) -> None:
    """Refuse classes that a run knows by other numbers; names that it does not know may be new.

    Args: the data's names in order, the run's, what has them, and what can be done about it.

    Raises:
        DataError: if a name has another number, so that labels would mean other classes.
    """
    numbers = {name: number for number, name in enumerate(known)}
    for number, name in enumerate(found):
        if (before := numbers.get(name, number)) != number:
            raise DataError(
                f"{where} has the classes in another order than the run: {name} is class {number} "
                f"there, and class {before} of the run{advice}"
            )


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
