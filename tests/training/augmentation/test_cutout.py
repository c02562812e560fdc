"""Cutout: what is blanked, how much, and where."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.augmentation.cutout import cutout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(3, 20), st.integers(3, 20), st.integers(0, 1000))
def test_one_square_is_blanked_and_the_rest_keeps_every_bit(
    side: int, height: int, width: int, seed: int
) -> None:
    images = torch.rand(3, 3, height, width, generator=seeded(seed)) * 0.4
    blanked = cutout(images, side, seeded(seed))
    for before, after in zip(images, blanked, strict=True):
        hole = (after != before).all(dim=0)
        assert torch.equal(after[:, ~hole], before[:, ~hole])
        assert (after[:, hole] == 128 / 255).all()
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        for covered, length in ((rows, height), (columns, width)):
            assert min(side // 2, length, 1) <= covered.sum() <= min(side, length)
            assert covered.int().diff().abs().sum() <= 2  # in one piece


def test_a_square_inside_has_its_full_area_and_its_centre_may_be_any_pixel() -> None:
    holes = cutout(torch.zeros(5000, 3, 32, 32), 16, seeded())[:, 0] > 0
    areas = holes.sum(dim=(1, 2))
    assert areas.max() == 16 * 16
    assert areas.min() == 8 * 8  # the centre in a corner
    # From 32 centres a side covers 8, twice each of 9 to 15, and 17 times 16 pixels: 14 on average.
    assert areas.float().mean() == pytest.approx(14**2, rel=0.02)
    assert holes.any(dim=0).all()


def test_bytes_become_grey_too() -> None:
    blanked = cutout(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 20, seeded())
    assert blanked.dtype == torch.uint8
    assert (blanked == 128).all()


def test_every_image_has_a_square_of_its_own() -> None:
    blanked = cutout(torch.zeros(16, 3, 32, 32), 8, seeded())
    assert len({row.numpy().tobytes() for row in blanked}) > 12
