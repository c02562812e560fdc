"""The whole loss: every combination against the sum of its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.losses import formulas
from tests.training.losses.formulas import COUNTS, EXPERTS, Array, random_logits
from training.choices import BaseLoss, DistillationForm, DiversityForm, TemperatureForm
from training.config import LossConfig
from training.errors import ConfigError, DataError
from training.losses.ride import RideLoss
from training.losses.targets import Targets

CPU = torch.device("cpu")
LABELS = torch.tensor(formulas.LABELS)
MIXED_WITH = (1, 0, 2, 1, 3, 3)
SCALE = 30.0
WEAK = random_logits(seed=4)
TEACHER = random_logits(seed=5)[0]
LOG_PRIOR = np.log(np.array(COUNTS) / sum(COUNTS))


def expected_base(
    logits: Array, config: LossConfig, labels: tuple[int, ...], deferred: bool
) -> float:
    shift, gamma, weights = [0.0] * formulas.CLASSES, 0.0, [1.0] * formulas.CLASSES
    if config.base is BaseLoss.LDAM:
        shift = [SCALE * margin for margin in formulas.margins(config.max_margin)]
    if config.base is BaseLoss.FOCAL:
        gamma = config.focal_gamma
    if deferred:
        weights = formulas.effective_number_weights(config.reweighting_beta)
    return sum(formulas.label_loss(expert, labels, shift, gamma, weights) for expert in logits)


def expected_diversity(logits: Array, config: LossConfig, deferred: bool) -> float:
    temperatures = [config.temperature_eta] * formulas.CLASSES
    if deferred:
        temperatures = formulas.temperatures(
            config.temperature, config.temperature_eta, config.temperature_gamma
        )
    match config.diversity:
        case DiversityForm.MEAN:
            return formulas.diversity_from_mean(logits, temperatures)
        case DiversityForm.PAIRWISE:
            return formulas.diversity_pairwise(logits, temperatures)
        case DiversityForm.NONE:
            return 0.0


def ride_loss(config: LossConfig, epoch: int = 0, targets: Targets | None = None) -> Tensor:
    loss = RideLoss(config, COUNTS, EXPERTS, SCALE, CPU)
    return loss(
        random_logits().float(),
        targets or Targets(LABELS),
        epoch,
        weak_logits=WEAK.float(),
        teacher_mean=TEACHER.float(),
    )


@pytest.mark.parametrize("base", BaseLoss)
@pytest.mark.parametrize("diversity", DiversityForm)
@pytest.mark.parametrize("temperature", TemperatureForm)
@pytest.mark.parametrize("epoch", [159, 160])
def test_the_whole_loss_adds_up(
    base: BaseLoss, diversity: DiversityForm, temperature: TemperatureForm, epoch: int
) -> None:
    config = LossConfig(
        base=base,
        diversity=diversity,
        temperature=temperature,
        temperature_gamma=0.3,
        temperature_eta=1.2,
    )
    logits, deferred = random_logits().numpy(), epoch >= 160
    adjusted = logits + LOG_PRIOR if base is BaseLoss.BALANCED_SOFTMAX else logits
    expected = expected_base(adjusted, config, formulas.LABELS, deferred)
    expected += config.diversity_weight * expected_diversity(logits, config, deferred)
    assert ride_loss(config, epoch).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("base", BaseLoss)
def test_everything_at_once_adds_up(base: BaseLoss) -> None:
    """Base loss and consistency see adjusted logits; diversity and distillation do not."""
    strengths, inverse = (-0.5, 1.0, 2.5), (0.0, 0.0, 2.0)
    config = LossConfig(
        base=base,
        prior_strengths=strengths,
        inverse_prior_strengths=inverse,
        distillation_weight=0.7,
        consistency_weight=0.6,
        consistency_temperature=2.0,
    )
    logits = random_logits().numpy()
    adjustments = np.outer(strengths, LOG_PRIOR) - np.outer(inverse, LOG_PRIOR[::-1])
    adjusted, weak = logits + adjustments[:, None], WEAK.numpy() + adjustments[:, None]
    expected = 0.3 * expected_base(adjusted, config, formulas.LABELS, deferred=True)
    expected += 0.7 * expected_base(adjusted, config, MIXED_WITH, deferred=True)
    expected -= 0.45 * expected_diversity(logits, config, deferred=True)
    expected += 0.7 * formulas.distillation(logits.mean(axis=0), TEACHER.numpy(), 1.5)
    expected += 0.6 * formulas.consistency(adjusted, weak, MIXED_WITH, 2.0)
    mixed = Targets(LABELS, torch.tensor(MIXED_WITH), 0.3)
    assert ride_loss(config, 160, mixed).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", DistillationForm)
def test_the_mean_or_each_expert_imitates_the_teacher(form: DistillationForm) -> None:
    plain = LossConfig()
    config = replace(
        plain, distillation=form, distillation_weight=0.7, distillation_temperature=2.0
    )
    logits, teacher = random_logits().numpy(), TEACHER.numpy()
    students = logits if form is DistillationForm.EACH else logits.mean(axis=0, keepdims=True)
    expected = 0.7 * sum(formulas.distillation(student, teacher, 2.0) for student in students)
    added = ride_loss(config, 0) - ride_loss(plain, 0)
    assert added.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("experts", range(1, 7))
@pytest.mark.parametrize("base", BaseLoss)
def test_any_number_of_experts_learns_from_everything(experts: int, base: BaseLoss) -> None:
    config = LossConfig(
        base=base,
        prior_strengths=tuple(range(experts)),
        distillation_weight=1.0,
        consistency_weight=1.0,
    )
    logits = random_logits(experts=experts).requires_grad_()
    loss = RideLoss(config, COUNTS, experts, SCALE, CPU)(
        logits,
        Targets(LABELS),
        0,
        weak_logits=random_logits(seed=4, experts=experts),
        teacher_mean=TEACHER,
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_half_precision_logits_are_worked_on_in_full() -> None:
    loss = RideLoss(LossConfig(), COUNTS, EXPERTS, SCALE, CPU)
    half = random_logits().bfloat16()
    assert torch.equal(loss(half, Targets(LABELS), 0), loss(half.float(), Targets(LABELS), 0))


@pytest.mark.parametrize("diversity", DiversityForm)
def test_a_single_expert_has_only_its_base_loss(diversity: DiversityForm) -> None:
    config = LossConfig(diversity=diversity)
    logits = random_logits(experts=1)
    loss = RideLoss(config, COUNTS, 1, SCALE, CPU)(logits, Targets(LABELS), 0)
    expected = expected_base(logits.numpy(), config, formulas.LABELS, deferred=False)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_deferred_reweighting_starts_at_its_epoch_and_stays() -> None:
    config = LossConfig(reweighting_epoch=7)
    values = [ride_loss(config, epoch).item() for epoch in range(10)]
    assert len(set(values[:7])) == len(set(values[7:])) == 1
    assert values[6] != values[7]


def test_without_an_epoch_there_is_no_reweighting() -> None:
    never = LossConfig(reweighting_epoch=None)
    assert ride_loss(never, 1000) == ride_loss(LossConfig(), 0)


def test_more_diversity_lowers_the_loss() -> None:
    config = LossConfig(diversity_weight=-0.45)
    assert ride_loss(config) < ride_loss(replace(config, diversity_weight=0.0))


def test_a_weak_view_and_a_teacher_without_weight_change_nothing() -> None:
    loss = RideLoss(LossConfig(), COUNTS, EXPERTS, SCALE, CPU)
    assert loss(random_logits(), Targets(LABELS), 0) == ride_loss(LossConfig())


def test_mixing_with_the_same_labels_changes_nothing() -> None:
    mixed = ride_loss(LossConfig(), 0, Targets(LABELS, LABELS, 0.25))
    assert mixed.item() == pytest.approx(ride_loss(LossConfig()).item())


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (LossConfig(temperature_gamma=2.0), "temperature_gamma"),
    ],
)
def test_settings_that_make_no_sense_are_refused_from_the_start(
    config: LossConfig, field: str
) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.{field} "):
        RideLoss(config, COUNTS, EXPERTS, SCALE, CPU)


def test_a_class_without_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 2 .* has no training images"):
        RideLoss(LossConfig(), (5, 3, 0, 1), EXPERTS, SCALE, CPU)
