"""WebDataset tar shards: files of one name and several endings are one sample."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from scoring.errors import InputError, one_line
from scoring.inputs.locations import IMAGE_SUFFIXES, is_url, open_file
from scoring.records import LIMITS, Fault, FaultKind, Record

_MAX_LABEL_BYTES = 4096
_NO_IMAGE = Fault(
    FaultKind.MISSING, f"the sample has no member that ends in {', '.join(IMAGE_SUFFIXES)}"
)


@dataclass
class _Sample:
    """The members of one name, up to its first dot, as far as they are read."""

    key: str
    member: str = ""
    image: bytes | Fault = _NO_IMAGE
    label: str | None = None


@dataclass(frozen=True)
class TarShard:
    """A tar file, compressed or not, read from start to end.

    Attributes:
        location: path or URL.
        image: ending of the members that are images; None for those of the known formats.
        label: ending of the members that hold a label as text, such as `cls`.
    """

    location: str
    image: str | None = None
    label: str | None = None
    rows: int | None = field(default=None, init=False)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the samples. Where the file is damaged, one fault stands for all that follows.

        Raises:
            InputError: if the file can't be opened, or a URL can't be read any more.
        """
        count = 0
        try:
            for sample in self._samples(skip):
                if count >= skip:
                    yield self._record(sample)
                count += 1
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            reason = one_line(error)
            if is_url(self.location):  # most likely the network; the same command goes on
                raise InputError(f"{self.location} can't be read any more: {reason}") from error
            if count >= skip:
                damaged = f"the tar file is damaged after {count} samples: {reason}"
                yield Record(f"{self.location}#", None, Fault(FaultKind.UNREADABLE, damaged))

    def _record(self, sample: _Sample) -> Record:
        name = sample.member or sample.key
        return Record(f"{self.location}#{name}", name, sample.image, sample.label)

    def _samples(self, skip: int) -> Iterator[_Sample]:
        """Samples in order; of the first `skip`, nothing but the key is read."""
        sample: _Sample | None = None
        count = 0
        with open_file(self.location) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep all of them
                if not member.isreg():
                    continue
                key, ending = _split(member.name)
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                        count += 1
                    sample = _Sample(key)
                if count >= skip:
                    self._take(sample, tar, member, ending)
        if sample is not None:
            yield sample

    def _take(
        self, sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str
    ) -> None:
        wanted = (self.image,) if self.image else tuple(each[1:] for each in IMAGE_SUFFIXES)
        last = ending.rpartition(".")[2].lower()
        content = tar.extractfile(member)
        assert content is not None  # of a regular file
        if sample.image is _NO_IMAGE and (ending in wanted or last in wanted):
            sample.member = member.name
            sample.image = content.read(LIMITS.max_bytes + 1)
        elif self.label is not None and ending == self.label:
            sample.label = content.read(_MAX_LABEL_BYTES).decode(errors="replace").strip()


def tar_shards(location: str, image: str | None, label: str | None, _: int) -> list[TarShard]:
    """A tar file as one shard, which can't be divided.

    Raises:
        InputError: if it can't be read, or does not begin as a tar file does.
    """
    try:
        with open_file(location) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            tar.next()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{location} is not a readable tar file: {one_line(error)}") from error
    return [TarShard(location, image, label)]


def _split(name: str) -> tuple[str, str]:
    """The key of a member, up to the first dot of its file's name, and what follows that dot."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending
