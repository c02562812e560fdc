"""The images that every load sends: real ones, so that the usual share of them goes on.

A thousand of CIFAR-100's test images lie in tests/data. Each is sent as raw pixels or as the PNG
file that was published. Loads are whole passes over them wherever a count can be chosen, so that
every server gets the same work.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.checkout import TEST_IMAGES
from benchmarks.errors import BenchmarkError


@dataclass(frozen=True)
class SampleImages:
    """Images, each in two forms.

    Attributes:
        pixels: RGB, uint8 [N, H, W, 3].
        files: the same as PNG files.
    """

    pixels: NDArray[np.uint8]
    files: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.files)

    def passes(self, images: float) -> int:
        """The number of images in the fewest whole passes, at least one, that are this many."""
        return max(1, round(images / len(self))) * len(self)


def read_images(file: Path = TEST_IMAGES, every: int = 1) -> SampleImages:
    """Read every n-th image of a Parquet file with PNG bytes in `img`.

    Raises:
        BenchmarkError: if it is not there.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 serving does without it

    try:
        rows = pq.read_table(file, columns=["img"])["img"].to_pylist()
    except OSError as error:
        raise BenchmarkError(
            f"{file} can't be read ({error}): run this in a checkout of the repository"
        ) from error
    files = tuple(row["bytes"] for row in rows[::every])
    return SampleImages(np.stack([decode(data) for data in files]), files)


def noise_images(count: int, size: int) -> SampleImages:
    """Seeded noise of `size` by `size` pixels, for networks that were never trained."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    files = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    return SampleImages(pixels, tuple(files))


def decode(file: bytes) -> NDArray[np.uint8]:
    """The pixels of an image file, RGB, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def write_input_data(images: SampleImages, file: Path, *, batched: bool) -> None:
    """Write the file that perf_analyzer's `--input-data` takes: an image a request.

    The shape includes the batch where the model's `max_batch_size` is 0; a `batched` model has
    another and takes one image a row.
    """
    shape = images.pixels.shape[1:] if batched else (1, *images.pixels.shape[1:])
    rows = [
        {"image": {"b64": base64.b64encode(image.tobytes()).decode(), "shape": shape}}
        for image in images.pixels
    ]
    file.write_text(json.dumps({"data": rows}))
