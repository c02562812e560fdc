"""The most probable classes of an answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest
from serving.model.manifest import Manifest
from serving.model.routing import Float


def top_k_classes(probabilities: Float, k: int) -> NDArray[np.intp]:
    """The `k` most probable of C classes, best first, the lower number first among equals.

    Args: probabilities [N, C]. Returns: [N, min(k, C)].
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


def check_top_k(manifest: Manifest, top_k: int) -> None:
    """Raise InvalidRequest unless the model has that many classes."""
    if not 1 <= top_k <= manifest.num_classes:
        raise InvalidRequest(f"top_k must lie between 1 and {manifest.num_classes}, not {top_k}")
