"""Which rows make up which batch, and the seed of everything random in it.

Every draw is a function of (seed, stage, epoch, step, part), never of a generator's history. So a
run that is resumed draws what the undisturbed run would have drawn, and a checkpoint needs no
generator state. A batch is worked off in parts; the parts are the same whether one process takes
them one after another or several take them side by side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.data import LabelledImages
from training.data.loading import BatchPlan


def seed_of(*key: int) -> int:
    """A well-mixed seed, below 2^63, for a position in a run."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


def shuffled(images: LabelledImages, seed: int) -> Tensor:
    """Every row once, in random order, int64 [N]."""
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))


def class_balanced_sample(images: LabelledImages, seed: int) -> Tensor:
    """N draws with replacement, every class equally likely, int64 [N]."""
    weights = 1.0 / torch.tensor(images.class_counts, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(
        weights[images.labels], len(images), replacement=True, generator=generator
    )


def parts_of(
    rows: Tensor, key: tuple[int, ...], image_size: int, parts: int
) -> tuple[BatchPlan, ...]:
    """A batch cut into parts of equal size (give or take one), each with a seed of its own."""
    return tuple(
        BatchPlan(part, seed_of(*key, i), image_size)
        for i, part in enumerate(torch.tensor_split(rows, parts))
    )
