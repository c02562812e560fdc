"""`--set section.field=value`, and settings that make no sense."""

from __future__ import annotations

import pytest

from training.checks import check_config
from training.choices import Family, Policy
from training.config import TrainingConfig
from training.errors import ConfigError
from training.presets import PRESETS, preset

BASE = preset("cifar100-lt")


def test_values_are_json_or_words() -> None:
    changed = BASE.with_settings(
        [
            "loss.prior_strengths=[0, 1, 2]",
            "model.reduced_width=false",
            "model.backbone=resnet50",
            "loss.reweighting_epoch=null",
            " augmentation.policy = autoaugment ",
            "seed=7",
        ]
    )
    assert changed.loss.prior_strengths == (0.0, 1.0, 2.0)
    assert not changed.model.reduced_width
    assert changed.model.backbone is Family.RESNET50
    assert changed.loss.reweighting_epoch is None
    assert changed.augmentation.policy is Policy.AUTOAUGMENT
    assert changed.seed == 7
    assert changed.optimiser == BASE.optimiser


@pytest.mark.parametrize(
    "assignment",
    ["loss.colour=red", "colour=red", "loss=ldam", "seed", "=3", "loss.base.name=x", "a.b.c=1", ""],
)
def test_a_setting_that_does_not_exist_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="names no setting"):
        BASE.with_settings([assignment])


@pytest.mark.parametrize(
    ("assignment", "place"),
    [
        ("optimiser.epochs=many", "optimiser.epochs"),
        ("model.backbone=resnet33", "model.backbone"),
        ("loss.prior_strengths=1", "loss.prior_strengths"),
        ("optimiser.learning_rate=[0.1]", "optimiser.learning_rate"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(assignment: str, place: str) -> None:
    with pytest.raises(ConfigError, match=f"--set is wrong at {place}"):
        BASE.with_settings([assignment])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_sense(name: str) -> None:
    check_config(PRESETS[name])


@pytest.mark.parametrize(
    "assignments",
    [
        ["model.num_experts=7"],
        ["model.num_experts=0"],
        ["data.image_size=4096"],
        ["data.resize_shorter_side=31"],
        ["data.holdout=0.6"],
        ["data.formats=[]"],
        ['data.formats=["jpeg", "heic"]'],
        ["model.pixel_std=[0.2, 0, 0.2]"],
        ["augmentation.mixup_alpha=-1"],
        ["augmentation.mixup_alpha=0.4", "loss.consistency_weight=1"],
        ["optimiser.epochs=0"],
        ["router.learning_rate=0"],
        ["classifier.momentum=1"],
        ["optimiser.weight_decay=-1"],
        ["optimiser.accumulate=129"],
        ["optimiser.ema_decay=1"],
        ["optimiser.drop_epochs=[180, 160]"],
        ["optimiser.warmup_epochs=201"],
        ["optimiser.small_epochs=10", "optimiser.small_size=0"],
        ["optimiser.small_epochs=10", "optimiser.small_size=33"],
        ["classifier.tau=0.5"],
        ["router.threshold=2"],
        ["router.batch_size=0"],
    ],
    ids=" ".join,
)
def test_settings_without_sense_are_refused_by_name(assignments: list[str]) -> None:
    check_config(BASE)
    config = BASE.with_settings(assignments)
    with pytest.raises(ConfigError, match=assignments[-1].split("=")[0].replace(".", r"\.")):
        check_config(config)


def test_milestones_move_along_with_the_schedule() -> None:
    config = BASE.with_settings(["optimiser.small_epochs=100", "optimiser.small_size=24"])
    assert config.with_epochs(20).optimiser.small_epochs == 10
    never: TrainingConfig = BASE.with_settings(["loss.reweighting_epoch=null"])
    assert never.with_epochs(20).loss.reweighting_epoch is None
