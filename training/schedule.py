"""Learning rates: of each epoch in stage one, of each step in stage two."""

from __future__ import annotations

import math

from training.config import OptimiserConfig, RouterConfig, ScheduleForm


def learning_rate(config: OptimiserConfig, epoch: int) -> float:
    """Linear warm-up over the first epochs, then steps or a cosine to 0 (epochs from 0).

    The cosine is Loshchilov and Hutter 2017, equation 5, without restarts, an epoch at a time.
    """
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch + 1) / config.warmup_epochs
    if config.schedule is ScheduleForm.COSINE:
        done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    drops = sum(epoch >= drop for drop in config.drop_epochs)
    return config.learning_rate * config.drop_factor**drops


def router_learning_rate(config: RouterConfig, step: int, steps: int) -> float:
    """Cosine from the configured rate to 0 over all steps of stage two."""
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
