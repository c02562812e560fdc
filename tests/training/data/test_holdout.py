"""Images kept out of training: a share of each class, the same for the same seed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import DataConfig
from training.data.holdout import split_holdout

LABELS = torch.arange(4).repeat_interleave(torch.tensor([100, 30, 10, 1]))
SHUFFLED = LABELS[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(7))]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0, 0.999), st.integers(0, 9))
@settings(max_examples=50)
def test_every_row_is_on_one_side_and_every_class_keeps_one(
    labels: list[int], share: float, seed: int
) -> None:
    tensor = torch.tensor(labels)
    kept, held = split_holdout(tensor, DataConfig(holdout=share, subset_seed=seed))
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    assert set(tensor[kept].tolist()) == set(labels)


def test_each_class_gives_its_share() -> None:
    _, held = split_holdout(SHUFFLED, DataConfig(holdout=0.2))
    assert torch.bincount(SHUFFLED[held], minlength=4).tolist() == [20, 6, 2, 0]


def test_without_a_share_nothing_is_held_out() -> None:
    kept, held = split_holdout(SHUFFLED, DataConfig(holdout=0.0))
    assert kept.tolist() == list(range(len(SHUFFLED)))
    assert len(held) == 0


def test_the_draw_is_the_same_for_the_same_seed_only() -> None:
    def held(seed: int) -> list[int]:
        return split_holdout(SHUFFLED, DataConfig(holdout=0.2, subset_seed=seed))[1].tolist()

    assert held(1) == held(1) != held(2)
