"""Labels of plain and of mixed images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.losses.targets import Targets

FIRST, SECOND = torch.tensor([0, 1, 2]), torch.tensor([2, 2, 4])


def total(labels: Tensor) -> Tensor:
    return labels.double().sum()


def test_plain_images_have_one_label() -> None:
    assert Targets(FIRST).blend(total) == 3
    assert Targets(FIRST).dominant is FIRST


def test_mixed_images_take_of_each_label_its_share() -> None:
    blended = Targets(FIRST, SECOND, 0.3).blend(total)
    assert blended.item() == pytest.approx(0.3 * 3 + 0.7 * 8)


@pytest.mark.parametrize(("share", "dominant"), [(0.7, FIRST), (0.3, SECOND)])
def test_the_dominant_label_has_the_larger_share(share: float, dominant: Tensor) -> None:
    assert Targets(FIRST, SECOND, share).dominant is dominant
