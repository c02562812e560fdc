"""Two ways of routing that can't be served: chance, and hindsight.

A router earns its place between them. Both return scores [K-1, N] like the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.model.routing import Float

_TIE_BREAK = 1e-3


def random_scores(experts: int, images: int, seed: int = 0) -> Float:
    """Scores that know nothing of the image."""
    return np.random.default_rng(seed).random((experts - 1, images), dtype=np.float32)


def oracle_scores(right: NDArray[np.bool_], seed: int = 0) -> Float:
    """Scores that know the label: right [K, N], whether the mean of the first k experts is right.

    An image that is wrong now is worth 1 over the number of further experts until it is right, 0
    if it never will be; one that is right now is worth 0. Equal images are told apart by chance,
    so that every budget can be met.
    """
    experts, images = right.shape
    scores = np.zeros((experts - 1, images))
    distance = np.full(images, np.inf)
    for i in reversed(range(experts)):
        distance = np.where(right[i], 0.0, distance + 1)
        if i < experts - 1:
            np.divide(1.0, distance, out=scores[i], where=distance > 0)
    chance = np.random.default_rng(seed).random(scores.shape)
    return (scores * (1 - _TIE_BREAK * chance)).astype(np.float32)
