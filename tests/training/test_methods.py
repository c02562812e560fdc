"""Each method of training, with any number of experts, does what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.runs import (
    CONFIG,
    CPU,
    EXPERT_STEPS,
    ROUTER_STEPS,
    assert_equal,
    make,
    start,
)
from training.augmentation import to_unit_range
from training.backbones import COSINE_SCALE
from training.batches import seed_of, shuffled
from training.checkpoint import (
    Checkpoint,
    Stage,
    load_checkpoint,
    load_finished,
)
from training.checks import check_config
from training.choices import Precision
from training.data import ImageSet
from training.device import ComputeDevice
from training.loop import new_checkpoint
from training.losses.ride import RideLoss
from training.losses.targets import Targets
from training.model import RideModel
from training.schedule import learning_rate

pytestmark = pytest.mark.usefixtures("short_networks")


def test_bf16_trains_fp32_weights(tiny: ImageSet, tmp_path: Path) -> None:
    machine = ComputeDevice(torch.device("cpu"), Precision.BF16)
    checkpoint = new_checkpoint(CONFIG, tiny, {})
    _, witness = start(checkpoint, tiny, tmp_path, stop_after=2, machine=machine)
    assert all(torch.isfinite(report.loss) for report in witness.reports)
    weights = load_checkpoint(tmp_path).model.values()
    assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("experts", [1, 2, 6])
@pytest.mark.parametrize(
    "method",
    [
        ["loss.base=cross-entropy", "model.cosine_classifier=false", "classifier.tau=0.5"],
        ["loss.base=focal", "loss.diversity=pairwise"],
        ["loss.consistency_weight=0.5", "augmentation.policy=randaugment"],
        ["loss.distillation_weight=1", "augmentation.mixup_alpha=1"],
    ],
    ids=" ".join,
)
def test_each_method_trains_any_number_of_experts(
    tiny: ImageSet, tmp_path: Path, experts: int, method: list[str]
) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, num_experts=experts))
    config = config.with_settings([*method, "optimiser.batch_size=27", "router.epochs=1"])
    check_config(config)
    teacher = RideModel(replace(CONFIG.model, num_experts=2))
    wanted = teacher if config.loss.distillation_weight else None
    finished, witness = start(new_checkpoint(config, tiny, {}), tiny, tmp_path, teacher=wanted)
    assert finished
    assert all(torch.isfinite(report.loss) for report in witness.reports)


def test_a_teacher_is_imitated_and_left_alone(tiny: ImageSet, tmp_path: Path) -> None:
    config = CONFIG.with_settings(["loss.distillation_weight=1", "model.num_experts=1"])
    teacher = RideModel(CONFIG.model)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    checkpoint = new_checkpoint(config, tiny, {})
    _, taught = start(checkpoint, tiny, make(tmp_path / "taught"), teacher=teacher)
    _, alone = start(
        new_checkpoint(replace(config, loss=CONFIG.loss), tiny, {}), tiny, make(tmp_path / "alone")
    )
    assert_equal(teacher.state_dict(), before)
    assert not torch.equal(taught.reports[0].loss, alone.reports[0].loss)


def test_the_average_of_the_weights_is_what_is_kept(tiny: ImageSet, tmp_path: Path) -> None:
    """After two steps: half of the first weights and half of the second, statistics included."""
    config = CONFIG.with_settings(
        ["optimiser.ema_decay=0.5", "optimiser.epochs=1", "optimiser.batch_size=14"]
    )
    plain = replace(config, optimiser=replace(config.optimiser, ema_decay=0.0))
    weights = []
    for steps in (1, 2):
        folder = make(tmp_path / str(steps))
        start(new_checkpoint(plain, tiny, {}), tiny, folder, stop_after=steps)
        weights.append(load_checkpoint(folder).model)
    start(new_checkpoint(config, tiny, {}), tiny, tmp_path)
    averaged = load_finished(tmp_path).model
    for name in ("backbone.trunk.conv.weight", "backbone.trunk.bn.running_mean"):
        torch.testing.assert_close(averaged[name], (weights[0][name] + weights[1][name]) / 2)


def test_a_batch_in_parts_takes_the_mean_of_their_gradients(tiny: ImageSet, tmp_path: Path) -> None:
    """One step of plain SGD on two parts moves as far as half of each part's own step."""
    base = CONFIG.with_settings(
        ["optimiser.momentum=0", "optimiser.weight_decay=0", "augmentation.policy=none"]
    )
    config = base.with_settings(["optimiser.batch_size=26", "optimiser.accumulate=2"])
    first = new_checkpoint(config, tiny, {})
    initial = first.build_model().state_dict()
    start(first, tiny, tmp_path, stop_after=1)
    moved = load_checkpoint(tmp_path).model
    order = shuffled(tiny, seed_of(0, 1, 0, 0))[:26]
    fresh = new_checkpoint(config, tiny, {})
    steps = [one_step(fresh, tiny.subset(part)) for part in torch.split(order, 13)]
    name = "experts.0.stage3.0.conv2.weight"
    expected = initial[name] + torch.stack([step[name] - initial[name] for step in steps]).mean(0)
    torch.testing.assert_close(moved[name], expected, rtol=1e-3, atol=1e-6)


def one_step(checkpoint: Checkpoint, data: ImageSet) -> dict[str, Tensor]:
    """The weights after one step of plain SGD on all of `data` at once."""
    config = checkpoint.config
    model = checkpoint.build_model().train()
    counts, experts = checkpoint.class_counts, config.model.num_experts
    loss = RideLoss(config.loss, counts, experts, COSINE_SCALE, CPU.device)
    outputs = model(to_unit_range(data.images))
    loss(outputs.logits, Targets(data.labels), 0).backward()  # type: ignore[no-untyped-call]
    rate = learning_rate(config.optimiser, 0)
    with torch.no_grad():
        for parameter in model.experts.parameters():
            assert parameter.grad is not None
            parameter.sub_(rate * parameter.grad)
    return model.state_dict()


def test_retraining_moves_the_classifiers_alone(tiny: ImageSet, tmp_path: Path) -> None:
    config = CONFIG.with_settings(["classifier.epochs=1", "classifier.batch_size=8"])
    start(new_checkpoint(config, tiny, {}), tiny, tmp_path, stop_after=EXPERT_STEPS)
    before = load_checkpoint(tmp_path).model
    _, witness = start(load_checkpoint(tmp_path), tiny, tmp_path)
    after = load_finished(tmp_path).model
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    of_experts = {name for name in changed if not name.startswith("routers.")}
    assert of_experts == {f"experts.{i}.classifier.weight" for i in range(3)}
    stages = [report.position.stage for report in witness.reports]
    assert stages == [Stage.CLASSIFIERS] * 4 + [Stage.ROUTERS] * ROUTER_STEPS


def test_tau_normalisation_takes_the_length_out_of_weights(tiny: ImageSet, tmp_path: Path) -> None:
    config = CONFIG.with_settings(["model.cosine_classifier=false", "model.num_experts=1"])
    whole = config.with_settings(["classifier.tau=1"])
    for name, one in (("plain", config), ("whole", whole)):
        start(new_checkpoint(one, tiny, {}), tiny, make(tmp_path / name))
    before = load_finished(tmp_path / "plain").model["experts.0.classifier.weight"]
    after = load_finished(tmp_path / "whole").model["experts.0.classifier.weight"]
    torch.testing.assert_close(after, before / before.norm(dim=1, keepdim=True))
