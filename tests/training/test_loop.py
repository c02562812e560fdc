"""Whole runs on tiny data: resumed bit for bit, reproducible, and they learn."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from serving.interrupt import InterruptFlag
from training.augmentation import to_unit_range
from training.backbones import COSINE_SCALE
from training.batches import seed_of, shuffled
from training.checkpoint import (
    FILE_NAME,
    Checkpoint,
    Position,
    Stage,
    load_checkpoint,
    load_finished,
)
from training.checks import check_config
from training.choices import BaseLoss, Dataset, OnUnreadable, Policy, Precision, ScheduleForm
from training.config import (
    AugmentationConfig,
    ClassifierConfig,
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RouterConfig,
    TrainingConfig,
)
from training.data import ImageSet
from training.data.loading import Loader, make_loader
from training.device import ComputeDevice
from training.errors import CheckpointError, ConfigError, DivergedError
from training.loop import StepReport, TrainingRun, new_checkpoint
from training.losses.ride import RideLoss
from training.losses.targets import Targets
from training.model import RideModel
from training.schedule import learning_rate

pytestmark = pytest.mark.usefixtures("short_networks")

CONFIG = TrainingConfig(
    preset="cifar10-lt",
    data=DataConfig(dataset=Dataset.CIFAR10, image_size=8),
    model=ModelConfig(num_classes=10, num_experts=3, router_top_logits=10),
    optimiser=OptimiserConfig(epochs=2, batch_size=8, warmup_epochs=1, drop_epochs=(1,)),
    router=RouterConfig(epochs=2, batch_size=16),
)
CPU = ComputeDevice(torch.device("cpu"), Precision.FP32)
EXPERT_STEPS = 2 * 4  # 27 images in batches of 8
ROUTER_STEPS = 2 * 2
NEVER_S = 1e9


class Witness:
    """A reporter that keeps what it was told, and may act after each step."""

    def __init__(self, act: Callable[[int], None] = lambda step: None) -> None:
        self.reports: list[StepReport] = []
        self.saves: list[Position] = []
        self._act = act

    def step(self, report: StepReport) -> None:
        self.reports.append(report)
        self._act(len(self.reports))

    def saved(self, position: Position) -> None:
        self.saves.append(position)


class PowerCut(Exception):
    """Ends a run without any warning."""


def loader_of(data: ImageSet, config: TrainingConfig) -> Loader:
    return make_loader(
        data,
        config.augmentation,
        config.data,
        CPU.device,
        workers=0,
        two_views=config.loss.consistency_weight > 0,
        on_unreadable=OnUnreadable.STOP,
    )


def start(
    checkpoint: Checkpoint,
    data: ImageSet,
    folder: Path,
    *,
    stop_after: int | None = None,
    compute: ComputeDevice = CPU,
    teacher: RideModel | None = None,
) -> tuple[bool, Witness]:
    """Train; interrupted after that many steps. Returns whether the end was reached."""
    interrupt = InterruptFlag()

    def act(step: int) -> None:
        interrupt.requested = step == stop_after

    witness = Witness(act)
    run = TrainingRun(
        checkpoint,
        data,
        loader_of(data, checkpoint.config),
        folder,
        compute,
        checkpoint_every_s=NEVER_S,
        reporter=witness,
        interrupt=interrupt,
        teacher=teacher,
    )
    return run.run(), witness


def trained(config: TrainingConfig, data: ImageSet, folder: Path) -> dict[str, Tensor]:
    """Weights of a run that nothing disturbed."""
    finished, _ = start(new_checkpoint(config, data, {}), data, folder)
    assert finished
    return load_finished(folder).model


@pytest.fixture(scope="module")
def undisturbed(tiny: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of CONFIG trained in one go; they don't depend on torch's global generator."""
    torch.manual_seed(12345)
    return trained(CONFIG, tiny, tmp_path_factory.mktemp("undisturbed"))


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []


def same(left: dict[str, Tensor], right: dict[str, Tensor], prefix: str) -> bool:
    names = [name for name in left if name.startswith(prefix)]
    assert names
    return all(torch.equal(left[name], right[name]) for name in names)


def test_the_same_run_twice_has_the_same_weights(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(54321)
    assert_equal(trained(CONFIG, tiny, tmp_path), undisturbed)


def test_another_seed_has_other_weights(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path
) -> None:
    other = trained(replace(CONFIG, seed=1), tiny, tmp_path)
    for prefix in ("backbone", "experts.0", "experts.2", "routers.0"):
        assert not same(other, undisturbed, prefix)


def test_fresh_weights_come_from_the_seed(tiny: ImageSet) -> None:
    first, again, other = (
        new_checkpoint(replace(CONFIG, seed=seed), tiny, {}).model for seed in (3, 3, 4)
    )
    assert_equal(first, again)
    for prefix in ("backbone.trunk.conv", "experts.1.stage2.0.conv1", "routers.1.hidden"):
        assert not same(first, other, prefix)


def test_fresh_weights_leave_torchs_global_generator_alone(tiny: ImageSet) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    new_checkpoint(CONFIG, tiny, {})
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "stops",
    [
        [3],  # within an epoch
        [EXPERT_STEPS, 1],  # at the end of stage one and within stage two
        [1] * (EXPERT_STEPS + ROUTER_STEPS),  # after every single step
    ],
    ids=str,
)
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path, stops: list[int]
) -> None:
    checkpoint = new_checkpoint(CONFIG, tiny, {})
    for stop in stops:
        finished, _ = start(checkpoint, tiny, tmp_path, stop_after=stop)
        assert not finished
        checkpoint = load_checkpoint(tmp_path)
    finished, witness = start(checkpoint, tiny, tmp_path)
    assert finished
    assert sum(stops) + len(witness.reports) == EXPERT_STEPS + ROUTER_STEPS
    assert_equal(load_finished(tmp_path).model, undisturbed)


@pytest.mark.parametrize("step", [6, EXPERT_STEPS + 2])
def test_after_a_power_cut_a_run_goes_on_from_its_last_checkpoint(
    tiny: ImageSet, undisturbed: dict[str, Tensor], tmp_path: Path, step: int
) -> None:
    def cut(done: int) -> None:
        if done == step:
            raise PowerCut

    witness = Witness(cut)
    run = TrainingRun(
        new_checkpoint(CONFIG, tiny, {}),
        tiny,
        loader_of(tiny, CONFIG),
        tmp_path,
        CPU,
        checkpoint_every_s=0,
        reporter=witness,
        interrupt=InterruptFlag(),
    )
    with pytest.raises(PowerCut):
        run.run()
    assert load_checkpoint(tmp_path).position == witness.saves[-1] == witness.reports[-1].position
    finished, _ = start(load_checkpoint(tmp_path), tiny, tmp_path)
    assert finished
    assert_equal(load_finished(tmp_path).model, undisturbed)


def test_an_interruption_is_saved_where_the_next_step_begins(
    tiny: ImageSet, tmp_path: Path
) -> None:
    _, witness = start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=6)
    assert [report.position.step for report in witness.reports] == [0, 1, 2, 3, 0, 1]
    assert witness.saves == [Position(Stage.EXPERTS, 1, 2)]
    assert load_checkpoint(tmp_path).position == Position(Stage.EXPERTS, 1, 2)


def test_reports_follow_the_schedule_of_both_stages(tiny: ImageSet, tmp_path: Path) -> None:
    _, witness = start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path)
    rates = [report.learning_rate for report in witness.reports]
    assert rates[:EXPERT_STEPS] == pytest.approx([0.1] * 4 + [0.001] * 4)
    assert rates[EXPERT_STEPS:] == pytest.approx([0.01, 0.008536, 0.005, 0.001464], rel=1e-3)
    assert witness.saves == [Position(Stage.ROUTERS), Position(Stage.DONE)]
    assert Counter(report.position.stage for report in witness.reports) == {
        Stage.EXPERTS: EXPERT_STEPS,
        Stage.ROUTERS: ROUTER_STEPS,
    }


def test_each_stage_trains_its_own_part_only(tiny: ImageSet, tmp_path: Path) -> None:
    """Batch norm statistics included: in stage two they stay as the experts left them."""
    fresh = new_checkpoint(CONFIG, tiny, {})
    initial = {name: tensor.clone() for name, tensor in fresh.model.items()}
    start(fresh, tiny, tmp_path, stop_after=EXPERT_STEPS)
    middle = load_checkpoint(tmp_path)
    start(load_checkpoint(tmp_path), tiny, tmp_path)
    final = load_finished(tmp_path).model
    for prefix in ("backbone", "experts.0", "experts.1", "experts.2"):
        assert not same(initial, middle.model, prefix)
        assert same(middle.model, final, prefix)
    for prefix in ("routers.0.hidden", "routers.1.hidden", "routers.0.output"):
        assert same(initial, middle.model, prefix)
        assert not same(middle.model, final, prefix)
    assert same(
        {"a": final["routers.0.output.weight"]}, {"a": final["routers.1.output.weight"]}, ""
    )


def test_a_single_expert_is_done_after_stage_one(tiny: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, num_experts=1))
    finished, witness = start(new_checkpoint(config, tiny, {}), tiny, tmp_path)
    assert finished
    assert {report.position.stage for report in witness.reports} == {Stage.EXPERTS}
    assert load_finished(tmp_path).optimiser == {}


def test_a_finished_run_has_nothing_left_to_do(tiny: ImageSet, tmp_path: Path) -> None:
    checkpoint = new_checkpoint(CONFIG, tiny, {})
    checkpoint.position = Position(Stage.DONE)
    finished, witness = start(checkpoint, tiny, tmp_path)
    assert finished
    assert (witness.reports, witness.saves) == ([], [])


def test_other_data_than_the_run_was_started_with_is_refused(
    tiny: ImageSet, tmp_path: Path
) -> None:
    checkpoint = new_checkpoint(CONFIG, tiny, {})
    same_labels = replace(tiny, images=tiny.images.flip(2))
    for other in (tiny.subset(torch.arange(20)), same_labels):
        with pytest.raises(ConfigError, match="not what this run was started with"):
            start(checkpoint, other, tmp_path)


def seen_labels(stage: Stage, data: ImageSet, folder: Path, epochs: int) -> list[int]:
    """The class of every image that reaches the backbone in one stage.

    The images of class k are all of one shade, (k + 1) * 20, which no augmentation brightens.
    """
    shades = (data.labels + 1).view(-1, 1, 1, 1) * 20
    data = replace(data, images=shades.expand(-1, 8, 8, 3).to(torch.uint8))
    checkpoint = new_checkpoint(
        replace(
            CONFIG,
            model=replace(CONFIG.model, num_experts=2),
            optimiser=replace(CONFIG.optimiser, epochs=epochs, batch_size=100),
            router=replace(CONFIG.router, epochs=epochs, batch_size=100),
        ),
        data,
        {},
    )
    checkpoint.position = Position(stage)
    run = TrainingRun(
        checkpoint,
        data,
        loader_of(data, checkpoint.config),
        folder,
        CPU,
        checkpoint_every_s=NEVER_S,
        reporter=Witness(),
        interrupt=InterruptFlag(),
    )
    seen: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if run.position.stage is stage:
            seen.extend((inputs[0].amax(dim=(1, 2, 3)) * 255 / 20 - 1).round().int().tolist())

    run.model.backbone.register_forward_pre_hook(note)
    run.run()
    return seen


def test_an_epoch_of_stage_one_shows_every_image_once(tiny: ImageSet, tmp_path: Path) -> None:
    seen = seen_labels(Stage.EXPERTS, tiny, tmp_path, epochs=1)
    assert sorted(seen) == tiny.labels.tolist()
    assert seen != sorted(seen)


def test_stage_two_draws_all_classes_alike(tiny: ImageSet, tmp_path: Path) -> None:
    counts = Counter(seen_labels(Stage.ROUTERS, tiny, tmp_path, epochs=20))
    assert sum(counts.values()) == 20 * 27
    assert all(54 / 2 < counts[label] < 54 * 2 for label in range(10))


def test_colours_are_learnt(coloured: Callable[[Tensor, int], Tensor], tmp_path: Path) -> None:
    labels = torch.arange(4).repeat(8)
    data = ImageSet(coloured(labels, 8), labels, ("a", "b", "c", "d"))
    config = replace(
        CONFIG,
        model=ModelConfig(num_classes=4, num_experts=2),
        optimiser=OptimiserConfig(epochs=12, batch_size=16, warmup_epochs=2, drop_epochs=(10,)),
    )
    _, witness = start(new_checkpoint(config, data, {}), data, tmp_path)
    experts = [r for r in witness.reports if r.position.stage is Stage.EXPERTS]
    assert sum(float(r.loss) for r in experts[-4:]) < 0.5 * sum(float(r.loss) for r in experts[:4])
    assert sum(float(r.accuracy) for r in experts[-4:]) / 4 > 0.8


def test_bf16_trains_fp32_weights(tiny: ImageSet, tmp_path: Path) -> None:
    compute = ComputeDevice(torch.device("cpu"), Precision.BF16)
    checkpoint = new_checkpoint(CONFIG, tiny, {})
    _, witness = start(checkpoint, tiny, tmp_path, stop_after=2, compute=compute)
    assert all(torch.isfinite(report.loss) for report in witness.reports)
    weights = load_checkpoint(tmp_path).model.values()
    assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float32}


FULL = replace(
    CONFIG,
    augmentation=AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=4, mixup_alpha=0.4),
    loss=replace(CONFIG.loss, base=BaseLoss.BALANCED_SOFTMAX, prior_strengths=(0.0, 1.0, 2.0)),
    optimiser=replace(
        CONFIG.optimiser,
        accumulate=2,
        schedule=ScheduleForm.COSINE,
        ema_decay=0.5,
        small_epochs=1,
        small_size=8,
    ),
    classifier=ClassifierConfig(epochs=1, batch_size=8),
    data=replace(CONFIG.data, image_size=12, resize_shorter_side=12),
)
"""Everything at once: mixed labels, priors, averaged weights, parts, small images, retraining."""


@pytest.mark.parametrize("stops", [[3, 4, 2], [1] * 14], ids=str)
def test_every_method_at_once_is_resumed_bit_for_bit(
    tiny: ImageSet, tmp_path: Path, stops: list[int]
) -> None:
    undisturbed = trained(FULL, tiny, make(tmp_path / "undisturbed"))
    checkpoint = new_checkpoint(FULL, tiny, {})
    for stop in stops:
        finished, _ = start(checkpoint, tiny, tmp_path, stop_after=stop)
        assert not finished
        checkpoint = load_checkpoint(tmp_path)
    finished, _ = start(checkpoint, tiny, tmp_path)
    assert finished
    assert_equal(load_finished(tmp_path).model, undisturbed)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


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


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(
    tiny: ImageSet, tmp_path: Path
) -> None:
    start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=2)
    good = (tmp_path / FILE_NAME).read_bytes()
    broken = load_checkpoint(tmp_path)
    broken.model["experts.1.classifier.weight"][0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"the loss is nan at experts, epoch 1, step 2.*kept"):
        start(broken, tiny, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == good


def test_a_weight_that_is_no_number_is_never_saved(tiny: ImageSet, tmp_path: Path) -> None:
    config = CONFIG.with_settings(["optimiser.learning_rate=1e38", "optimiser.warmup_epochs=0"])
    with pytest.raises(DivergedError, match="learning_rate"):
        start(new_checkpoint(config, tiny, {}), tiny, tmp_path, stop_after=1)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    tiny: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(new_checkpoint(CONFIG, tiny, {}), tiny, tmp_path, stop_after=2)
    good = (tmp_path / FILE_NAME).read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="could not be written: No space left on device"):
        start(load_checkpoint(tmp_path), tiny, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME]
