"""What a batch of images is labelled with, mixed images included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Labels of N images. With mixup (Zhang et al. 2018) every image has two.

    `labels` and `mixed_with` are int64 [N]; `share` is the weight of `labels`, from 0 to 1, and
    `mixed_with` has the rest.
    """

    labels: Tensor
    mixed_with: Tensor | None = None
    share: float = 1.0

    @property
    def dominant(self) -> Tensor:
        """The label of which an image shows more, int64 [N]."""
        if self.mixed_with is None or self.share >= 0.5:
            return self.labels
        return self.mixed_with

    def blend(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """The weighted sum share * loss(labels) + (1 - share) * loss(mixed_with)."""
        if self.mixed_with is None:
            return loss(self.labels)
        return self.share * loss(self.labels) + (1 - self.share) * loss(self.mixed_with)
