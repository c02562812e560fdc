"""Rows and seeds of batches: functions of the position alone."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from training.batches import class_balanced_sample, parts_of, seed_of, shuffled
from training.data import ImageSet

KEYS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5)


@given(KEYS, KEYS)
def test_other_places_in_a_run_have_other_seeds(one: list[int], other: list[int]) -> None:
    """Zeros at the end don't count: numpy fills up keys with them."""
    assert 0 <= seed_of(*one) < 2**63
    length = max(len(one), len(other))
    same = [*one, *[0] * length][:length] == [*other, *[0] * length][:length]
    assert (seed_of(*one) == seed_of(*other)) == same


@given(st.integers(1, 40), st.integers(1, 8))
def test_parts_make_up_the_batch_and_are_of_one_size(count: int, parts: int) -> None:
    rows = torch.arange(count) + 100
    plans = parts_of(rows, (1, 2), 32, parts)
    assert torch.equal(torch.cat([plan.rows for plan in plans]), rows)
    sizes = [len(plan.rows) for plan in plans]
    assert max(sizes) - min(sizes) <= 1
    assert len({plan.seed for plan in plans}) == parts


def test_an_epoch_has_every_row_once(tiny: ImageSet) -> None:
    order = shuffled(tiny, 5)
    assert sorted(order.tolist()) == list(range(len(tiny)))
    assert order.tolist() == shuffled(tiny, 5).tolist() != shuffled(tiny, 6).tolist()


def test_balanced_draws_are_even_over_classes(tiny: ImageSet) -> None:
    labels = torch.cat([tiny.labels[class_balanced_sample(tiny, seed)] for seed in range(200)])
    counts = Counter(labels.tolist())
    assert max(counts.values()) - min(counts.values()) < 0.25 * 200 * len(tiny) / 10
