"""WebDataset tar shards: files of one name and several endings are one sample.

A sample may have several images, and each of them is a row.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from tarfile import TarInfo
from typing import IO, Any, cast

from scoring.errors import InputError, one_line
from scoring.inputs.locations import is_url, open_file
from scoring.inputs.tar_archive import DAMAGE, TarReader
from scoring.inputs.unique_names import UniqueNames
from scoring.records import LIMITS, Fault, FaultKind, Record
from serving.images.formats import IMAGE_SUFFIXES

_MAX_LABEL_BYTES = 4096
_MOST_LABELS = 1024
"""Of a sample, which wait for their images."""

_MOST_WAITING = 64
_MOST_WAITING_BYTES = 64 * 2**20
"""Images of a sample, which wait for their labels."""

_APPLE_DOUBLE = b"\0\5\x16\7"
"""How files `._name` begin in which macOS's tar keeps what it knows of the file `name`."""


@dataclass(frozen=True)
class TarShard:
    """A tar file, compressed or not, read from start to end.

    Attributes:
        location: path or URL.
        images: endings of the members that are images, without the dot.
        label: ending of the members that hold a label as text, such as `cls`.
    """

    location: str
    images: tuple[str, ...]
    label: str | None = None
    rows: int | None = field(default=None, init=False)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the images. Where the file is damaged, one fault stands for all that follows.

        Raises:
            InputError: if the file can't be opened, or a URL can't be read any more.
        """
        rows = _Rows(self, skip)
        with _opened(self.location) as file:
            try:
                yield from rows.of(TarReader(file))
            except DAMAGE as error:
                yield from rows.of_damage(error)


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of a sample; `part` is its ending without the format: `left` of `a.left.png`."""

    member: str
    part: str
    content: bytes | Fault
    weight: int


@dataclass
class _Sample:
    """The members of one key as far as they are read.

    Attributes:
        key: their name up to its first dot.
        has_image: whether an image was among them.
        waiting: images that have no row yet, and `weight`, their bytes.
        labels: by the part of the images that they belong to; `""` for all others.
    """

    key: str
    has_image: bool = False
    waiting: deque[_Image] = field(default_factory=deque)
    weight: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether no further image may wait."""
        return len(self.waiting) > _MOST_WAITING or self.weight > _MOST_WAITING_BYTES

    def add_image(self, image: _Image) -> None:
        self.waiting.append(image)
        self.weight += image.weight

    def next_image(self) -> tuple[_Image, str | None]:
        """The image that waits longest, and its label."""
        image = self.waiting.popleft()
        self.weight -= image.weight
        return image, self.labels.get(image.part, self.labels.get(""))

    def add_label(self, part: str, label: str) -> None:
        self.labels[part] = label
        if len(self.labels) > _MOST_LABELS:
            del self.labels[next(each for each in self.labels if each)]


class _Rows:
    """The rows of a shard behind the first `skip`, of which no images are read."""

    def __init__(self, shard: TarShard, skip: int) -> None:
        self._shard = shard
        self._skip = skip
        self._row = 0
        self._names = UniqueNames()
        self._sample: _Sample | None = None

    def of(self, archive: TarReader) -> Iterator[Record]:
        """The rows of all samples, in order."""
        for member in archive:
            key, ending = _split(member.name)
            part = self._part_of_image(ending)
            of_label = self._part_of_label(ending) if part is None else None
            if part is None and of_label is None and not member.isreg():
                continue
            if _is_apple_double(archive, member):
                continue
            if self._sample is None or self._sample.key != key:
                yield from self._rest()
                self._sample = _Sample(key)
            if part is not None:
                self._sample.has_image = True  # also if it can't be read
                self._sample.add_image(self._image(archive, member, part))
                while self._sample.waiting and (self._shard.label is None or self._sample.is_full):
                    yield from self._next_row(self._sample)
            elif of_label is not None and isinstance(label := archive.read(member), bytes):
                text = label[:_MAX_LABEL_BYTES].decode(errors="replace").strip()
                self._sample.add_label(of_label, text)
        yield from self._rest()

    def of_damage(self, error: BaseException) -> Iterator[Record]:
        """The row that stands for what can't be read, after those of what was."""
        yield from self._rest()
        damaged = f"the tar file is damaged after {self._row} images: {one_line(error)}"
        yield from self._new_row("", None, Fault(FaultKind.UNREADABLE, damaged))

    def _image(self, archive: TarReader, member: TarInfo, part: str) -> _Image:
        waiting = 0 if self._sample is None else len(self._sample.waiting)
        content = b"" if self._row + waiting < self._skip else archive.read(member)
        weight = min(member.size, LIMITS.max_bytes) if member.isreg() else LIMITS.max_bytes
        return _Image(member.name, part, content, weight)

    def _rest(self) -> Iterator[Record]:
        """The rows that are left of the sample."""
        sample = self._sample
        if sample is None:
            return
        while sample.waiting:
            yield from self._next_row(sample)
        if not sample.has_image:
            endings = ", ".join(f".{ending}" for ending in self._shard.images)
            missing = Fault(FaultKind.MISSING, f"the sample has no member that ends in {endings}")
            yield from self._new_row(sample.key, sample.key, missing, sample.labels.get(""))

    def _next_row(self, sample: _Sample) -> Iterator[Record]:
        image, label = sample.next_image()
        yield from self._new_row(image.member, image.member, image.content, label)

    def _new_row(
        self, name: str, path: str | None, image: bytes | Fault, label: str | None = None
    ) -> Iterator[Record]:
        unique = self._names.unique(name, self._row)
        if self._row >= self._skip:
            yield Record(f"{self._shard.location}#{unique}", path, image, label)
        self._row += 1

    def _part_of_image(self, ending: str) -> str | None:
        """What is before the format in the ending of an image; None for other files."""
        part, _, last = ending.rpartition(".")
        images = self._shard.images
        return part if ending in images or last.lower() in images else None

    def _part_of_label(self, ending: str) -> str | None:
        """The part of the images whose label it is; None where it is no label."""
        label = self._shard.label
        if label is None or not f".{ending}".endswith(f".{label}"):
            return None
        return ending[: -len(label)].rstrip(".")


def tar_shards(
    location: str,
    image: str | None,
    label: str | None,
    _: int,
    image_suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> list[TarShard]:
    """A tar file as one shard, which can't be divided; `image` takes the place of the suffixes.

    Raises:
        InputError: if it can't be read, or does not begin as a tar file does.
    """
    try:
        with _opened(location) as file:
            TarReader(file)
    except DAMAGE as error:
        raise InputError(f"{location} is not a readable tar file: {one_line(error)}") from error
    images = (image,) if image else tuple(suffix[1:] for suffix in image_suffixes)
    return [TarShard(location, images, label)]


def _opened(location: str) -> IO[bytes]:
    file = open_file(location)
    return (
        cast("IO[bytes]", io.BufferedReader(_Remote(file, location))) if is_url(location) else file
    )


class _Remote(io.RawIOBase):
    """A file behind a URL, whose failures end the run: they are no damage of the archive."""

    def __init__(self, file: IO[bytes], location: str) -> None:
        self._file = file
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:  # every file system has its own
            reason = one_line(error) or type(error).__name__
            raise InputError(f"{self._location} can't be read any more: {reason}") from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _is_apple_double(archive: TarReader, member: TarInfo) -> bool:
    if not member.name.rpartition("/")[2].startswith("._"):
        return False
    content = archive.read(member)
    return isinstance(content, bytes) and content.startswith(_APPLE_DOUBLE)


def _split(name: str) -> tuple[str, str]:
    """The key of a member, up to the first dot of its file's name, and what follows that dot.

    A dot that a hidden file's name begins with is part of the key.
    """
    folder, slash, file = name.removeprefix("./").rpartition("/")
    dot = file.find(".", 1 if file.count(".") > 1 else 0)
    stem, ending = (file, "") if dot < 0 else (file[:dot], file[dot + 1 :])
    return f"{folder}{slash}{stem}", ending
