"""How close a router's decision may be for two engines to take it differently, both being right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.model.routing import Float

NEAR_THRESHOLD = 1e-3


def near_threshold(router_scores: Float, thresholds: tuple[float, ...]) -> NDArray[np.bool_]:
    """Where routers that were asked score within 1e-3 of their thresholds, of scores [.., K-1]."""
    distance = np.abs(router_scores - np.array(thresholds, dtype=np.float32))
    return np.asarray(distance <= NEAR_THRESHOLD)  # NaN is near nothing
