"""Threads that decode images, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.errors import RideError
from serving.images.base64_text import image_file
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import ImageSpec
from serving.tracing.request_context import note_step

_MEMORY = 0.05
"""Weight of the newest image in the moving average of the time that decoding takes."""


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image (JPEG, PNG, .., or such a file in base64) and the client's name for it."""

    data: bytes
    name: str | None = None


class ImageDecoders:
    """Decodes the images of all requests.

    Attributes:
        under_way: images that wait for a thread or are being decoded.
    """

    def __init__(self, limits: ImageLimits, threads: int) -> None:
        self.under_way = 0
        self._limits = limits
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="ride-decoder")
        self._seconds_an_image = 0.0

    def close(self) -> None:
        """Let running work end and stop the threads."""
        self._executor.shutdown(cancel_futures=True)

    @property
    def seconds_left(self) -> float:
        """How long what is under way will take, by what images took lately."""
        return self.under_way * self._seconds_an_image / self._threads

    async def decode(self, images: Sequence[EncodedImage], spec: ImageSpec) -> NDArray[np.uint8]:
        """All images, uint8 [N, H, W, 3], decoded side by side.

        Raises:
            InvalidImage: for the first that is bad, by its name.
            ImageTooLarge: for one above the limits.
        """
        loop, start = asyncio.get_running_loop(), time.monotonic()
        self.under_way += len(images)
        futures = [
            loop.run_in_executor(self._executor, self._decode, image, spec) for image in images
        ]
        try:
            return np.stack([await future for future in futures])
        except BaseException:
            for future in futures:
                future.cancel()
            # Those that already run end by themselves; their outcome is not wanted any more.
            await asyncio.gather(*futures, return_exceptions=True)
            raise
        finally:
            self.under_way -= len(images)
            note_step("decode", start, **{"ride.images": len(images)})

    def _decode(self, image: EncodedImage, spec: ImageSpec) -> NDArray[np.uint8]:
        start = time.perf_counter()
        try:
            pixels = decode_image(image_file(image.data), spec, self._limits)
        except RideError as error:
            if image.name is None:
                raise
            raise type(error)(f"{image.name}: {error}") from error
        took = time.perf_counter() - start
        self._seconds_an_image += _MEMORY * (took - self._seconds_an_image)
        return pixels
