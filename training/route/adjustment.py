"""Logit adjustment after training: how much of the prior to take out of every answer.

Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 9: answers are
softmax(z - tau * log prior). Balanced softmax does the same while learning, but experts that know
their training images by heart, or imitate a teacher that does, lean to common classes all the same.
"""

from __future__ import annotations

import numpy as np

from training.calibration import class_balanced_weights
from training.checkpoint import Checkpoint
from training.outputs import Outputs, prefix_predictions

STRENGTHS = tuple(float(strength) for strength in np.arange(0, 2.01, 0.05).round(2))
"""Those that are tried."""


def best_prior_adjustment(checkpoint: Checkpoint, calibration: Outputs) -> float:
    """The strength at which all prefixes together are right most often on calibration images.

    Classes count the same, however many calibration images they have; of equally good strengths
    it is the smallest.
    """
    weights = class_balanced_weights(calibration.labels)

    def accuracy(strength: float) -> float:
        corrections = checkpoint.prefix_corrections(strength).numpy()
        right = prefix_predictions(calibration, corrections) == calibration.labels
        return float(np.average(right, axis=1, weights=weights).mean())

    return max(STRENGTHS, key=accuracy)
