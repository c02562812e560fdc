"""Names, meanings, labels and buckets of the metrics that every engine shares.

One dashboard serves all engines because they take these from here. Standard library and numpy only:
Triton's Python reads this too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(frozen=True, eq=False)  # there is one of each, so it is its own key
class Metric:
    """A counter, a gauge, or, with buckets, a histogram.

    Attributes:
        name: without the suffixes `_total`, `_bucket`, `_sum` and `_count`.
        help: what it counts.
        labels: their names.
        buckets: upper bounds, rising, without infinity.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def bucket_names(self) -> tuple[str, ...]:
        """Values of the label `le`, the last of them `+Inf`."""
        return (*(str(float(bound)) for bound in self.buckets), "+Inf")

    def bucket_counts(self, values: NDArray[np.floating | np.integer]) -> NDArray[np.int64]:
        """How many of finite values [N] fall into each bucket, the last of them open."""
        places = np.searchsorted(self._bounds, values)  # the first bound that is not below
        return np.bincount(places, minlength=len(self._bounds))

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        return np.array([*self.buckets, np.inf])


IMAGES = Metric("ride_images", "Images classified.")
EXPERTS_PER_IMAGE = Metric(
    "ride_experts_per_image",
    "Experts that an image took; the mean is the headline.",
    buckets=tuple(float(experts) for experts in range(1, 9)),
)
EXPERT_RUNS = Metric("ride_expert_runs", "Images that each expert ran on.", ("expert",))
EXPERT_RUNS_AVOIDED = Metric(
    "ride_expert_runs_avoided",
    "Runs of an expert on an image that the full ensemble would have done in addition.",
)
MULTIPLY_ADDS = Metric("ride_multiply_adds", "Multiply-adds spent on images.")
MULTIPLY_ADDS_AVOIDED = Metric(
    "ride_multiply_adds_avoided",
    "Multiply-adds that the full ensemble would have spent in addition.",
)
ROUTER_SCORE = Metric(
    "ride_router_score",
    "Scores that routers gave; above the threshold an image goes on.",
    ("router",),
    tuple(tenth / 10 for tenth in range(1, 11)),
)
STAGE_BATCH_SIZE = Metric(
    "ride_stage_batch_size",
    "Images that a stage ran together.",
    ("stage",),
    tuple(float(2**power) for power in range(9)),
)
STAGE_QUEUE_SECONDS = Metric(
    "ride_stage_queue_seconds", "Time that an image waited for a stage.", ("stage",), _SECONDS
)
STAGE_COMPUTE_SECONDS = Metric(
    "ride_stage_compute_seconds",
    "Time that a batch took in a stage's graphs.",
    ("stage",),
    _SECONDS,
)
REQUESTS = Metric("ride_requests", "Requests answered.", ("protocol", "code"))
MODEL_INFO = Metric("ride_model_info", "Always 1; tells what is served.", ("model", "version"))


def stage_label(stage: int) -> str:
    """The label of a stage (from 1): it is named for its expert; the first has the backbone too."""
    return f"expert_{stage}"
