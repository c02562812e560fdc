"""What answers add to the metrics, whichever engine gave them. Pure.

"Avoided" compares each image with the full ensemble, which runs every expert and no router.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.model.manifest import MultiplyAdds
from serving.model.routing import Float


@dataclass(frozen=True)
class ImageCounts:
    """Of a batch of answers.

    Attributes:
        images: how many.
        expert_runs: images that each expert ran on.
        expert_runs_avoided: what all experts on every image would have been in addition.
        multiply_adds: spent.
        multiply_adds_avoided: what all experts would have spent in addition; never below 0.
    """

    images: int
    expert_runs: tuple[int, ...]
    expert_runs_avoided: int
    multiply_adds: int
    multiply_adds_avoided: int

    @classmethod
    def of(
        cls, experts_used: NDArray[np.int32], router_scores: Float, costs: MultiplyAdds
    ) -> ImageCounts:
        """Count answers: an image pays for the backbone, its experts and the routers it asked.

        `experts_used` [N] and `router_scores` [N, K-1] are those of `Routed`.
        """
        used, experts, images = experts_used, len(costs.experts), len(experts_used)
        runs = tuple(int((used >= expert).sum()) for expert in range(1, experts + 1))
        asked = np.isfinite(router_scores).sum(axis=0).tolist()
        spent = images * costs.backbone
        spent += sum(count * cost for count, cost in zip(runs, costs.experts, strict=True))
        spent += sum(count * cost for count, cost in zip(asked, costs.routers, strict=True))
        return cls(
            images=images,
            expert_runs=runs,
            expert_runs_avoided=images * experts - sum(runs),
            multiply_adds=spent,
            multiply_adds_avoided=max(0, images * costs.all_experts - spent),
        )
