"""What can go wrong in `ride export` and `ride verify`."""

from __future__ import annotations

from training.errors import TrainingError


class ExportError(TrainingError):
    """The export stopped, and nothing was written."""


class VerificationError(TrainingError):
    """Engines can't be compared: one does not answer, or is of another model."""
