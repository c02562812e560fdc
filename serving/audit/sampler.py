"""Samples images, each with the same chance, whatever it shows. Pure but for its generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random


class BernoulliSampler:
    """Every image is sampled with probability `share`, independently of all others.

    Instead of a number for each image, it draws how many to leave out until the next (a geometric
    distribution), so an image that is not sampled costs a subtraction.
    """

    def __init__(self, share: float, generator: Random) -> None:
        """`share` is above 0 and at most 1."""
        self._log_miss = math.log1p(-share) if share < 1 else -math.inf
        self._generator = generator
        self._left_out = self._gap()

    def sample(self, images: int) -> Iterator[int]:
        """The places of those sampled among the next images."""
        place = self._left_out
        while place < images:
            yield place
            place += 1 + self._gap()
        self._left_out = place - images

    def _gap(self) -> int:
        """How many images are left out before the next sample."""
        return int(math.log(1.0 - self._generator.random()) / self._log_miss)
