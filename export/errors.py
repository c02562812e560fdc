"""What can go wrong in `ride export`."""

from __future__ import annotations

from training.errors import TrainingError


class ExportError(TrainingError):
    """The export stopped, and nothing was written."""
