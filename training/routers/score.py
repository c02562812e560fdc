"""What every router's score has in common."""

from __future__ import annotations

from torch import Tensor

_SMALLEST = 1e-7


def as_score(values: Tensor) -> Tensor:
    """Clip values to [1e-7, 1].

    Never 0, so that a threshold of 0 sends every image on, however sure the model is.
    """
    return values.clamp(_SMALLEST, 1.0)
