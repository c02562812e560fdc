"""AutoAugment's and RandAugment's draws."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from training.augmentation import policies
from training.augmentation.operations import DIRECTED, Operation, apply_operations

_DEGREELESS = (Operation.AUTOCONTRAST, Operation.EQUALIZE, Operation.INVERT)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Operations and strengths of each step, in the order in which they are applied."""
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(images: Tensor, operations: Tensor, strengths: Tensor) -> Tensor:
        seen.append((operations, strengths))
        return images

    monkeypatch.setattr(policies, "apply_operations", watch)
    return seen


def test_the_policy_is_the_published_one() -> None:
    published = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    ours = [
        tuple(
            (operation.name, probability, None if operation in _DEGREELESS else magnitude)
            for operation, probability, magnitude in pair
        )
        for pair in policies.CIFAR10_POLICY
    ]
    camel = [
        tuple((_upper_with_underscores(name), p, magnitude) for name, p, magnitude in pair)
        for pair in published
    ]
    assert ours == camel


def _upper_with_underscores(name: str) -> str:
    """ShearX -> SHEAR_X, AutoContrast -> AUTOCONTRAST."""
    return name.replace("X", "_X").replace("Y", "_Y").upper()


def test_each_subpolicy_is_drawn_equally_often_and_its_parts_with_their_probabilities(
    steps: list[tuple[Tensor, Tensor]],
) -> None:
    """Counted for whole pairs of steps, and compared with what the table makes of them."""
    count = 50_000
    policies.autoaugment(torch.zeros(count, 1, 1, 1), seeded())
    (first, first_strengths), (second, second_strengths) = steps
    drawn = Counter(
        zip(
            first.tolist(),
            (first_strengths.abs() * 9).round().int().tolist(),
            second.tolist(),
            (second_strengths.abs() * 9).round().int().tolist(),
            strict=True,
        )
    )
    expected: Counter[tuple[int, int, int, int]] = Counter()
    for (one, p, m), (other, q, n) in policies.CIFAR10_POLICY:
        for one_now, p_now in ((int(one), p), (0, 1 - p)):
            for other_now, q_now in ((int(other), q), (0, 1 - q)):
                expected[one_now, m, other_now, n] += p_now * q_now / 25  # type: ignore[assignment]
    assert set(drawn) <= {key for key, share in expected.items() if share > 0}
    for key, share in expected.items():
        assert abs(drawn[key] / count - share) < 5 * (share / count) ** 0.5 + 1e-9


@pytest.mark.parametrize("policy", [policies.autoaugment, policies.randaugment])
def test_half_of_the_directed_operations_go_the_other_way_and_no_other(
    steps: list[tuple[Tensor, Tensor]], policy: object
) -> None:
    assert callable(policy)
    policy(torch.zeros(20_000, 1, 1, 1), seeded())
    for operations, strengths in steps:
        directed = torch.isin(operations, torch.tensor(sorted(DIRECTED))) & (strengths != 0)
        assert 0.48 < (strengths[directed] < 0).float().mean() < 0.52
        assert (strengths[~directed] >= 0).all()
        assert strengths.abs().max() <= 1


def test_randaugment_draws_two_of_fourteen_operations_at_magnitude_nine_of_thirty(
    steps: list[tuple[Tensor, Tensor]],
) -> None:
    policies.randaugment(torch.zeros(28_000, 1, 1, 1), seeded())
    assert len(steps) == 2
    for operations, strengths in steps:
        counts = torch.bincount(operations, minlength=len(Operation))
        assert counts[Operation.INVERT] == 0
        kept = [op for op in Operation if op is not Operation.INVERT]
        assert counts[kept].min() > 1800  # of 2000 each
        assert counts[kept].max() < 2200
        torch.testing.assert_close(strengths.abs(), torch.full_like(strengths, 0.3))
    assert 0 < (steps[0][0] == steps[1][0]).float().mean() < 0.1  # the two are independent


def test_the_steps_are_applied_one_upon_the_other() -> None:
    images = torch.rand(64, 3, 8, 8, generator=seeded(1))
    generator = seeded()
    drawn = torch.randint(14, (64, 2), generator=generator)
    turned = torch.rand(64, 2, generator=generator) < 0.5
    expected = images
    for step in range(2):
        signs = [
            -0.3 if turn and operation in DIRECTED else 0.3
            for turn, operation in zip(
                turned[:, step].tolist(), drawn[:, step].tolist(), strict=True
            )
        ]
        expected = apply_operations(expected, drawn[:, step], torch.tensor(signs))
    assert torch.equal(policies.randaugment(images, seeded()), expected)
