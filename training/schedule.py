"""Learning rates: of each epoch in stage one, of each step in stage two."""

from __future__ import annotations

import math

from training.config import OptimiserConfig, RouterConfig


def learning_rate(config: OptimiserConfig, epoch: int) -> float:
    """Linear warm-up over the first epochs, then a step at each drop epoch (epochs from 0)."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch + 1) / config.warmup_epochs
    drops = sum(epoch >= drop for drop in config.drop_epochs)
    return config.learning_rate * config.drop_factor**drops


def router_learning_rate(config: RouterConfig, step: int, steps: int) -> float:
    """Cosine from the configured rate to 0 over all steps of stage two."""
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
