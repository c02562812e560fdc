"""New thresholds from audited images: what they'd cost, and how often they'd agree. Pure.

An answer is "right" here where it is the full ensemble's. Thresholds are chosen on one half of the
images and measured on the other, so that the figures are no better than what is to be expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from serving.audit.samples import CalibrationSet
from serving.errors import AuditError
from serving.model.curves import Curve, CurvePoint
from serving.model.manifest import MultiplyAdds, Stops
from serving.model.proportion import Proportion
from serving.model.thresholds import experts_used, frontier, measured

FEWEST_IMAGES = 200
"""With fewer, an interval is wider than all that thresholds could gain."""

USUAL_AGREEMENTS = (0.95, 0.97, 0.98, 0.99, 0.995)


@dataclass(frozen=True)
class Proposal:
    """Thresholds, and what they gave on the half on which they were not chosen.

    Attributes:
        name: what they were chosen for.
        thresholds: of routers 1..K-1.
        mean_experts, mean_multiply_adds: of an image.
        agreement: with the full ensemble.
        stops: where images stopped.
    """

    name: str
    thresholds: tuple[float, ...]
    mean_experts: float
    mean_multiply_adds: float
    agreement: Proportion
    stops: Stops


class Proposals:
    """Chooses and measures thresholds on one set of audited images."""

    def __init__(self, samples: CalibrationSet, costs: MultiplyAdds) -> None:
        """Search one half of the images.

        Raises:
            AuditError: if there are too few, or they are of a model of another shape.
        """
        images = samples.scores.shape[1]
        if len(costs.experts) != len(samples.agrees):
            raise AuditError(
                f"the audit is of {len(samples.agrees)} experts, the model of {len(costs.experts)}"
            )
        if images < FEWEST_IMAGES:
            raise AuditError(
                f"the audit has {images} images and at least {FEWEST_IMAGES} are needed: wait, or "
                "start the server with a larger --audit-share"
            )
        # The server gives no order, but a ring of the newest has one.
        order = np.random.default_rng(0).permutation(images)
        self._costs = costs
        chosen_on, self._test = (samples.part(half) for half in np.split(order, [images // 2]))
        self._curve: Curve = frontier("audit", chosen_on.scores, chosen_on.agrees, costs)

    def in_force(self) -> Proposal:
        """What the model does now, for comparison."""
        return self._measured("in force", self._test.thresholds)

    def reaching(self, agreement: float) -> Proposal:
        """The cheapest that agrees with the full ensemble on at least this share of images.

        Raises:
            AuditError: unless the share lies between 0 and 1.
        """
        point = self._curve.cheapest_reaching(agreement)
        if point is None or not agreement >= 0:
            raise AuditError(f"the agreement must lie between 0 and 1, not {agreement:g}")
        return self._of(point, f"agreement {agreement:.1%}")

    def within(self, mean_experts: float) -> Proposal:
        """Those that agree most, of all that take at most so many experts of an image on average.

        Raises:
            AuditError: for fewer than one expert.
        """
        point = self._curve.best_within(mean_experts)
        if point is None:
            raise AuditError(
                f"every image takes one expert, so a mean of {mean_experts:g} can't be"
            )
        return self._of(point, f"{mean_experts:g} experts")

    def usual(self) -> Iterator[Proposal]:
        """What is offered to those who ask for nothing."""
        return (self.reaching(agreement) for agreement in USUAL_AGREEMENTS)

    def _of(self, point: CurvePoint, name: str) -> Proposal:
        return self._measured(name, point.thresholds)

    def _measured(self, name: str, thresholds: tuple[float, ...]) -> Proposal:
        test = self._test
        point = measured(thresholds, test.scores, test.agrees, self._costs)
        used = experts_used(thresholds, test.scores)
        images = len(used)
        stopped = np.bincount(used, minlength=len(test.agrees) + 1)[1:] / images
        agreed = round(point.accuracy * images)
        return Proposal(
            name=name,
            thresholds=thresholds,
            mean_experts=point.mean_experts,
            mean_multiply_adds=point.mean_multiply_adds,
            agreement=Proportion.estimate(agreed, images),
            stops=Stops(images, tuple(stopped.tolist())),
        )
