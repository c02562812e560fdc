"""Images kept out of training, for data sets that leave no others to choose thresholds on."""

from __future__ import annotations

import torch
from torch import Tensor

from training.config import DataConfig


def split_holdout(labels: Tensor, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Rows that stay in training, and rows that are held out: `holdout` of each class, rounded.

    A class always keeps an image for training; one that is too small for its share holds out
    none. The same `subset_seed` draws the same rows. Args: labels int64 [N]. Returns sorted rows.
    """
    generator = torch.Generator().manual_seed(config.subset_seed)
    order = torch.randperm(len(labels), generator=generator)
    held = torch.zeros(len(labels), dtype=torch.bool)
    # A stable sort leaves the rows of each class in the order that was drawn.
    by_class = order[labels[order].argsort(stable=True)]
    for rows in torch.split(by_class, torch.bincount(labels).tolist()):
        held[rows[: min(round(config.holdout * len(rows)), len(rows) - 1)]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
