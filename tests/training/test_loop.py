"""Whole runs on tiny data: what is trained when, on which images, and that it is learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from serving.interrupt import InterruptFlag
from tests.training.runs import (
    CONFIG,
    CPU,
    EXPERT_STEPS,
    NEVER_S,
    ROUTER_STEPS,
    Witness,
    assert_equal,
    loader_of,
    same,
    start,
)
from training.checkpoint import (
    Position,
    Stage,
    load_checkpoint,
    load_finished,
)
from training.config import ModelConfig, OptimiserConfig
from training.data import ImageSet
from training.errors import ConfigError
from training.loop import TrainingRun, new_checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")


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
