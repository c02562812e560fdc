"""Whatever a configuration can name, there is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from training.backbones.registry import FAMILIES
from training.choices import BaseLoss, DistillationForm, DiversityForm, Family, RouterKind
from training.losses.registry import BASE_LOSSES, DISTILLATIONS, DIVERSITIES
from training.routers.registry import ROUTERS


@pytest.mark.parametrize(
    ("registry", "kinds"),
    [
        (FAMILIES, Family),
        (ROUTERS, RouterKind),
        (BASE_LOSSES, BaseLoss),
        (DIVERSITIES, DiversityForm),
        (DISTILLATIONS, DistillationForm),
    ],
)
def test_every_kind_has_an_entry(registry: Mapping[StrEnum, Any], kinds: type[StrEnum]) -> None:
    assert set(registry) == set(kinds)
