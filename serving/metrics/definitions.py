"""Names, meanings, labels, units and buckets of all metrics, and which server has which.

One table, long as it is: one dashboard serves all engines because they take these from here, and
docs/metrics.md is made of them. No Prometheus client: Triton's Python reads this too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray


class Kind(StrEnum):
    """Prometheus' types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Server(StrEnum):
    """Whose `/metrics` it is."""

    EMBEDDED = "embedded"
    FRONT = "front"
    """`ride serve --triton`, in front of Triton."""

    TRITON = "triton"
    """Triton's own, of the model `ride`."""


_EMBEDDED = (Server.EMBEDDED,)
_OURS = (Server.EMBEDDED, Server.FRONT)
_ENGINES = (Server.EMBEDDED, Server.TRITON)
_ALL = tuple(Server)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, eq=False)  # there is one of each, so it is its own key
class Metric:
    """A counter, a gauge or a histogram.

    Attributes:
        kind: Prometheus' type.
        name: without the suffixes `_total`, `_bucket`, `_sum` and `_count`.
        help: what it counts.
        labels: their names; each takes few values, none of them a client's choice.
        servers: who has it.
        unit: of its values; a plain number if empty.
        buckets: of a histogram, upper bounds, rising, without infinity.
    """

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    servers: tuple[Server, ...] = _EMBEDDED
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> str:
        """The name as queries write it; of a histogram, what its parts begin with."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name

    @property
    def bucket_names(self) -> tuple[str, ...]:
        """Values of the label `le`, the last of them `+Inf`."""
        return (*(str(float(bound)) for bound in self.buckets), "+Inf")

    def bucket_places(self, values: NDArray[np.floating | np.integer]) -> NDArray[np.intp]:
        """The bucket, from 0, of each of finite values [N]: its bound is the first not below."""
        return self._bounds.searchsorted(values)

    def bucket_counts(self, values: NDArray[np.floating | np.integer]) -> NDArray[np.int64]:
        """How many of finite values [N] fall into each bucket, the last of them open."""
        return np.bincount(self.bucket_places(values), minlength=len(self._bounds))

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        return np.array([*self.buckets, np.inf])


_counter = partial(Metric, Kind.COUNTER)
_gauge = partial(Metric, Kind.GAUGE)
_histogram = partial(Metric, Kind.HISTOGRAM)
_images = partial(_counter, unit="images")
_ratio = partial(_gauge, unit="ratio")

# What was answered, and what that saved.
IMAGES = _images("ride_images", "Images classified.", servers=_ALL)
DEGRADED = _images(
    "ride_images_degraded",
    "Images classified at reduced cost, because the server had too much to do.",
    servers=_OURS,
)
VERSION_IMAGES = _images(
    "ride_version_images",
    "Images classified by a version: those served and the newest before them.",
    labels=("version",),
    servers=_ALL,
)
VERSION_EXPERT_RUNS = _images(
    "ride_version_expert_runs",
    "Experts that a version ran on images; over ride_version_images_total, its mean.",
    labels=("version",),
    servers=_ALL,
)
EXPERTS_PER_IMAGE = _histogram(
    "ride_experts_per_image",
    "Experts that an image took; the mean is the headline.",
    unit="experts",
    servers=_ALL,
    buckets=tuple(float(experts) for experts in range(1, 9)),
)
EXPERT_RUNS = _images(
    "ride_expert_runs", "Images that each expert ran on.", labels=("expert",), servers=_ALL
)
EXPERT_RUNS_AVOIDED = _images(
    "ride_expert_runs_avoided",
    "Runs of an expert on an image that the full ensemble would have done in addition.",
    servers=_ALL,
)
MULTIPLY_ADDS = _counter(
    "ride_multiply_adds", "Multiply-adds spent on images.", unit="operations", servers=_ALL
)
MULTIPLY_ADDS_AVOIDED = _counter(
    "ride_multiply_adds_avoided",
    "Multiply-adds that the full ensemble would have spent in addition.",
    unit="operations",
    servers=_ALL,
)
COMPUTE_SECONDS = _counter(
    "ride_compute_seconds",
    "Measured time in which graphs ran on images.",
    unit="seconds",
    servers=_ENGINES,
)
FULL_ENSEMBLE_SECONDS = _counter(
    "ride_full_ensemble_compute_seconds",
    "Estimated time in which the full ensemble would have run on the same images; less "
    "ride_compute_seconds_total, what routing saved.",
    unit="seconds",
)
ROUTER_SCORE = _histogram(
    "ride_router_score",
    "Scores that routers gave; above the threshold an image goes on.",
    unit="ratio",
    labels=("router",),
    servers=_ALL,
    buckets=tuple(tenth / 10 for tenth in range(1, 11)),
)
ROUTER_THRESHOLD = _ratio(
    "ride_router_threshold",
    "The model's own threshold of each router.",
    labels=("router",),
    servers=_ALL,
)
MODEL_INFO = _gauge(
    "ride_model_info", "Always 1; tells what is served.", labels=("model", "version"), servers=_ALL
)

# Where time goes.
REQUESTS = _counter(
    "ride_requests",
    "Requests answered.",
    unit="requests",
    labels=("protocol", "code"),
    servers=_ALL,
)
REQUEST_DURATION = _histogram(
    "ride_request_duration_seconds",
    "Time from a request's arrival to its answer; GET requests over HTTP are left out.",
    unit="seconds",
    labels=("protocol",),
    servers=_OURS,
    buckets=(*_SECONDS, 10.0),
)
DECODING_SECONDS = _histogram(
    "ride_decoding_seconds",
    "Time in which a request's image files became tensors, the wait for a thread included.",
    unit="seconds",
    buckets=_SECONDS,
)
STAGE_BATCH_SIZE = _histogram(
    "ride_stage_batch_size",
    "Images that a stage ran together.",
    unit="images",
    labels=("stage",),
    servers=_ENGINES,
    buckets=tuple(float(2**power) for power in range(9)),
)
STAGE_QUEUE_SECONDS = _histogram(
    "ride_stage_queue_seconds",
    "Time that an image waited for a stage.",
    unit="seconds",
    labels=("stage",),
    buckets=_SECONDS,
)
STAGE_COMPUTE_SECONDS = _histogram(
    "ride_stage_compute_seconds",
    "Time that a batch took in a stage's graphs.",
    unit="seconds",
    labels=("stage",),
    servers=_ENGINES,
    buckets=_SECONDS,
)
QUEUE_DEPTH = _gauge(
    "ride_queue_depth", "Images that wait for a stage.", unit="images", labels=("stage",)
)
EVENT_LOOP_LAG = _gauge(
    "ride_event_loop_lag_seconds",
    "How far the event loop is behind: requests wait there before anybody has seen them.",
    unit="seconds",
)
DEGRADATION_LEVEL = _gauge(
    "ride_degradation_level",
    "0 while answers cost what was asked for; each level is a cheaper gear of the model.",
)
LATENCY_OBJECTIVE = _gauge(
    "ride_latency_objective_seconds",
    "The latency that overload control works for (--latency-objective-ms).",
    unit="seconds",
)

# Whether images still behave as they did when the model was measured.
OWN_RULE_IMAGES = _images(
    "ride_own_rule_images",
    "Images answered by the model's own thresholds, as no request or load changed them, by the "
    "number of experts that they took.",
    labels=("experts",),
    servers=_ALL,
)
EXPECTED_GO_ON = _ratio(
    "ride_expected_go_on_ratio",
    "Of the images that reached a stage when the model was measured, the share that went on.",
    labels=("stage",),
    servers=_ALL,
)
GO_ON = _ratio(
    "ride_go_on_ratio",
    "The same of images answered lately by the model's own thresholds.",
    labels=("stage",),
)
DRIFT_EVIDENCE = _ratio(
    "ride_drift_evidence_ratio",
    "Evidence that the share that goes on has changed, as a share of what raises the alarm.",
    labels=("stage",),
)
DRIFT_DETECTED = _gauge(
    "ride_drift_detected",
    "1 while the evidence of a change is enough for an alarm, else 0.",
    labels=("stage",),
)

# The shadow audit: answered images that the full ensemble saw as well.
AUDIT_SHARE = _ratio(
    "ride_audit_share_ratio",
    "Share of answered images that is drawn for the audit (--audit-share).",
)
AUDIT_SAMPLED = _images("ride_audit_sampled", "Images drawn for the audit.")
AUDIT_DROPPED = _images(
    "ride_audit_dropped",
    "Images drawn and never audited: no room (`full`), a failure (`failed`), or their version "
    "was closed first (`closed`).",
    labels=("reason",),
)
AUDIT_WAITING = _gauge(
    "ride_audit_waiting", "Images drawn that wait for an idle moment.", unit="images"
)
AUDIT_COMPUTE_SECONDS = _counter(
    "ride_audit_compute_seconds",
    "Measured time in which graphs ran for the audit; in no other metric.",
    unit="seconds",
)
AUDIT_IMAGES = _images(
    "ride_audit_images",
    "Images audited, by the shot group of the full ensemble's answer.",
    labels=("group",),
)
AUDIT_AGREEMENTS = _images(
    "ride_audit_agreements", "Those whose answer was the full ensemble's.", labels=("group",)
)
AUDIT_ACCURACY_LOST = _images(
    "ride_audit_accuracy_lost",
    "Sum of the full ensemble's probability of its own answer less that of the given one; over "
    "ride_audit_images_total, the accuracy that routing is expected to cost.",
    labels=("group",),
)
AUDIT_STOPPED = _images(
    "ride_audit_stopped",
    "Images audited, by the last expert that they had taken.",
    labels=("expert",),
)
AUDIT_MISSED_HELP = _images(
    "ride_audit_missed_help",
    "Those that stopped at this expert although further experts would have changed the answer.",
    labels=("expert",),
)
AUDIT_FLIPS = _images(
    "ride_audit_flips",
    "Images audited whose answer changed, or would have, when this expert joined.",
    labels=("expert",),
)
AUDIT_EXPERT_RUNS = _images(
    "ride_audit_expert_runs", "Experts that the audited images had taken when they were answered."
)
AUDIT_WASTED_EXPERT_RUNS = _images(
    "ride_audit_wasted_expert_runs",
    "Those after which nothing changed: the answer was the full ensemble's already, and stayed.",
)
AUDIT_AGREEMENT = _ratio(
    "ride_audit_agreement_ratio",
    "Share of the newest audited images that agree with the full ensemble, with its confidence "
    "interval (95 %); group `all` is all of them.",
    labels=("group", "bound"),
)
AUDIT_ACCURACY_LOST_RATIO = _ratio(
    "ride_audit_accuracy_lost_ratio",
    "Accuracy that routing is expected to cost, of the newest audited images, with its "
    "confidence interval (95 %).",
    labels=("group", "bound"),
)

ALL_METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def stage_label(stage: int) -> str:
    """The label of a stage (from 1): it is named for its expert; the first has the backbone too."""
    return f"expert_{stage}"
