"""What can go wrong in `ride verify`."""

from __future__ import annotations

from training.errors import TrainingError


class VerificationError(TrainingError):
    """Engines can't be compared: one does not answer, or is of another model."""
