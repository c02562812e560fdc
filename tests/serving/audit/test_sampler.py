"""The sampler: every image has the same chance, however requests are cut."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.audit.sampler import BernoulliSampler


@given(
    st.floats(1e-4, 1), st.integers(0, 2**32), st.lists(st.integers(0, 40), min_size=1, max_size=50)
)
def test_who_is_drawn_does_not_depend_on_requests(
    share: float, seed: int, requests: list[int]
) -> None:
    whole = list(BernoulliSampler(share, Random(seed)).sample(sum(requests)))
    sampler, found, before = BernoulliSampler(share, Random(seed)), [], 0
    for images in requests:
        found += [before + place for place in sampler.sample(images)]
        before += images
    assert found == whole


def test_every_place_is_drawn_as_often() -> None:
    share, repeats, places = 0.1, 3_000, 20
    sampler, counts = BernoulliSampler(share, Random(0)), np.zeros(places)
    for _ in range(repeats):
        counts[list(sampler.sample(places))] += 1
    deviation = math.sqrt(repeats * share * (1 - share))
    assert np.abs(counts - repeats * share).max() < 4 * deviation


def test_everything_is_drawn_when_the_share_is_1() -> None:
    assert list(BernoulliSampler(1.0, Random(0)).sample(5)) == [0, 1, 2, 3, 4]
