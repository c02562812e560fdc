"""Learning rates."""

from __future__ import annotations

import math

from training.choices import ScheduleForm
from training.config import OptimiserConfig


def learning_rate(config: OptimiserConfig, epoch: int) -> float:
    """Linear warm-up over the first epochs, then steps or a cosine to 0 (epochs from 0)."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch + 1) / config.warmup_epochs
    if config.schedule is ScheduleForm.COSINE:
        done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
        return config.learning_rate * cosine(done)
    drops = sum(epoch >= drop for drop in config.drop_epochs)
    return config.learning_rate * config.drop_factor**drops


def cosine(done: float) -> float:
    """From 1 at the start to 0 at the end (Loshchilov and Hutter 2017, equation 5, one cycle)."""
    return 0.5 * (1 + math.cos(math.pi * done))
