"""What answers cost in multiply-adds, whichever engine gave them. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.model.manifest import MultiplyAdds
from serving.model.routing import Float


def spent_on_answers(
    experts_used: NDArray[np.int32], router_scores: Float, costs: MultiplyAdds
) -> int:
    """Of all together: an image pays for the backbone, its experts and the routers it asked.

    `experts_used` [N] and `router_scores` [N, K-1] are those of `Routed`.
    """
    by_experts = costs.backbone + np.cumsum((0, *costs.experts))
    asked = np.isfinite(router_scores).sum(axis=0)
    return int(by_experts[experts_used].sum() + asked @ np.array(costs.routers, dtype=np.int64))
