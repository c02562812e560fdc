"""Every family: sizes worked out by hand, against torchvision's whole network, and in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.short_networks import ONE_OF_EACH_KIND, shorten
from training.backbones import Parts, build_parts
from training.backbones.expert import TorchvisionExpert
from training.backbones.registry import FAMILIES
from training.choices import Family
from training.config import ModelConfig
from training.errors import ConfigError
from training.model import RideModel


def small(family: Family, **settings: object) -> ModelConfig:
    config = ModelConfig(backbone=family, num_classes=5, num_experts=2, router_top_logits=5)
    return replace(config, **settings)  # type: ignore[arg-type]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def unallocated(config: ModelConfig) -> Parts:
    with torch.device("meta"):
        return build_parts(config)


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def random_images(count: int, size: int = 64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_there_is_a_network_for_every_name() -> None:
    assert set(FAMILIES) == set(Family)


PUBLISHED = {
    Family.RESNET50: 25_557_032,
    Family.RESNET101: 44_549_160,
    Family.RESNET152: 60_192_808,
    Family.RESNEXT50: 25_028_904,
    Family.SWIN_T: 28_288_354,
    Family.SWIN_S: 49_606_258,
    Family.CONVNEXT_T: 28_589_128,
    Family.MOBILENET_V3: 5_483_032,
}
"""Parameters of the whole network for ImageNet's 1000 classes, as torchvision documents them."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_trunk_and_a_full_expert_are_the_published_network(family: Family) -> None:
    parts = unallocated(
        small(family, num_classes=1000, num_experts=1, reduced_width=False, cosine_classifier=False)
    )
    assert parameters(parts.trunk) + parameters(parts.experts[0]) == PUBLISHED[family]


@pytest.mark.parametrize("family", ONE_OF_EACH_KIND)
@pytest.mark.usefixtures("short")
def test_wherever_it_is_cut_a_full_expert_and_the_trunk_are_the_same_network(
    family: Family,
) -> None:
    sizes = set()
    for cut in FAMILIES[family].cuts:
        parts = unallocated(small(family, cut=cut, num_experts=1, reduced_width=False))
        sizes.add(parameters(parts.trunk) + parameters(parts.experts[0]))
    assert len(sizes) == 1


def bottleneck(inputs: int, inner: int, outputs: int, groups: int) -> int:
    """Three convolutions, each with its batch norm."""
    convolutions = inputs * inner + 9 * inner * inner // groups + inner * outputs
    return convolutions + 2 * (inner + inner + outputs)


def bottlenecks(inputs: int, inner: int, outputs: int, groups: int, depth: int) -> int:
    """The first block has a projection for its shortcut."""
    projection = inputs * outputs + 2 * outputs
    first = bottleneck(inputs, inner, outputs, groups) + projection
    return first + (depth - 1) * bottleneck(outputs, inner, outputs, groups)


@pytest.mark.parametrize(
    ("family", "inner", "groups", "depth3"),
    [
        (Family.RESNET50, (192, 384), 1, 6),
        (Family.RESNET101, (192, 384), 1, 23),
        (Family.RESNET152, (192, 384), 1, 36),
        (Family.RESNEXT50, (192 * 4 // 64 * 32, 384 * 4 // 64 * 32), 32, 6),
    ],
)
def test_a_reduced_expert_of_a_resnet_has_the_published_widths(
    family: Family, inner: tuple[int, int], groups: int, depth3: int
) -> None:
    expert = unallocated(small(family, num_experts=1)).experts[0]
    layers = bottlenecks(512, inner[0], 768, groups, depth3)
    layers += bottlenecks(768, inner[1], 1536, groups, 3)
    assert parameters(expert) == layers + 5 * 1536


def test_a_reduced_expert_of_resnet10_has_the_published_widths() -> None:
    expert = unallocated(small(Family.RESNET10)).experts[0]
    expected = 5 * 384
    for inputs, outputs in ((128, 192), (192, 384)):
        expected += 9 * inputs * outputs + 9 * outputs**2 + inputs * outputs + 3 * 2 * outputs
    assert parameters(expert) == expected


@pytest.mark.parametrize(("family", "depth3"), [(Family.SWIN_T, 6), (Family.SWIN_S, 18)])
def test_a_reduced_expert_of_swin_narrows_where_patches_are_merged(
    family: Family, depth3: int
) -> None:
    def block(width: int, heads: int) -> int:
        attention = 4 * width**2 + 4 * width + 13**2 * heads
        return attention + 8 * width**2 + 5 * width + 2 * 2 * width

    def merging(inputs: int, outputs: int) -> int:
        return 2 * 4 * inputs + 4 * inputs * outputs

    expected = merging(192, 288) + depth3 * block(288, 12) + merging(288, 576) + 2 * block(576, 24)
    assert (
        parameters(unallocated(small(family, num_experts=1)).experts[0])
        == expected + 2 * 576 + 5 * 576
    )


def test_a_reduced_expert_of_convnext_narrows_where_it_downsamples() -> None:
    def block(width: int) -> int:
        return (49 + 1) * width + 2 * width + 8 * width**2 + 5 * width + width

    def downsampling(inputs: int, outputs: int) -> int:
        return 2 * inputs + 4 * inputs * outputs + outputs

    expected = downsampling(192, 288) + 9 * block(288) + downsampling(288, 576) + 3 * block(576)
    assert parameters(unallocated(small(Family.CONVNEXT_T)).experts[0]) == expected + 7 * 576


def test_a_reduced_expert_of_mobilenet_has_three_quarters_in_multiples_of_eight() -> None:
    expert = unallocated(small(Family.MOBILENET_V3)).experts[0]
    assert isinstance(expert, TorchvisionExpert)
    widths = [child.out_channels for child in expert.body.get_submodule("features").children()]
    assert widths == [64, 64, 64, 64, 88, 88, 120, 120, 120, 720]
    assert expert.embedding_size == 960


def test_resnet32_cut_at_stage3_shares_stage2_at_full_width() -> None:
    def stage(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 2 * outputs + 9 * (9 * outputs**2 + 2 * outputs)

    parts = unallocated(small(Family.RESNET32, cut="stage3"))
    assert parameters(parts.trunk) == 23_824 + stage(16, 32)
    assert [parameters(expert) for expert in parts.experts] == [stage(32, 48) + 5 * 48] * 2


FEATURES = {
    (Family.RESNET32, "stage2"): (16, 64, 64),
    (Family.RESNET32, "stage3"): (32, 32, 32),
    (Family.RESNET10, "layer3"): (128, 8, 8),
    (Family.RESNET10, "layer4"): (256, 4, 4),
    (Family.RESNEXT50, "layer3"): (512, 8, 8),
    (Family.SWIN_T, "stage3"): (8, 8, 192),
    (Family.SWIN_T, "stage4"): (4, 4, 384),
    (Family.CONVNEXT_T, "stage3"): (192, 8, 8),
    (Family.CONVNEXT_T, "stage4"): (384, 4, 4),
    (Family.MOBILENET_V3, "stage4"): (40, 8, 8),
    (Family.MOBILENET_V3, "stage5"): (112, 4, 4),
}


@pytest.mark.parametrize(("family", "cut"), FEATURES)
@pytest.mark.usefixtures("short")
def test_every_expert_continues_from_the_trunks_features(family: Family, cut: str) -> None:
    """On unallocated tensors, which have shapes but no numbers."""
    parts = unallocated(small(family, cut=cut, cosine_classifier=False))
    features = parts.trunk.eval()(torch.empty(3, 3, 64, 64, device="meta"))
    assert features.shape == (3, *FEATURES[family, cut])
    for expert in parts.experts:
        logits, embedding = expert.eval()(features)
        assert logits.shape == (3, 5)
        assert embedding.shape == (3, expert.embedding_size)


@pytest.mark.parametrize(
    ("family", "stages"),
    [(Family.RESNET50, "layer3, layer4"), (Family.SWIN_T, "stage3, stage4")],
)
def test_a_wrong_cut_is_refused_with_the_right_ones(family: Family, stages: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{family} can't be cut at 'stage9'; its stages are: {stages}"
    ):
        build_parts(small(family, cut="stage9"))


@pytest.mark.parametrize("family", ONE_OF_EACH_KIND)
@pytest.mark.usefixtures("short")
def test_a_family_learns_in_bf16_with_channels_last(family: Family) -> None:
    """Every weight gets a gradient, and nothing is drawn from the global generator."""
    model = RideModel(small(family)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = torch.random.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(random_images(2, 32 if family is Family.RESNET32 else 64))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert outputs.logits.shape == (2, 2, 5)
    assert outputs.logits.dtype == outputs.embeddings.dtype == torch.float32
    generator = torch.Generator().manual_seed(1)
    (outputs.logits * torch.randn(outputs.logits.shape, generator=generator)).sum().backward()
    for part in (model.backbone, model.experts):
        for name, weight in part.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("family", ONE_OF_EACH_KIND)
@pytest.mark.usefixtures("short")
def test_images_may_have_any_size_and_batch(family: Family) -> None:
    model = RideModel(small(family, num_experts=1)).eval()
    with torch.inference_mode():
        for size in (32, 75):
            images = random_images(2, size)
            alone, together = model(images[:1]).logits[:, 0], model(images).logits[:, 0]
            torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_experts_share_the_trunk_and_nothing_else() -> None:
    model = RideModel(small(Family.RESNET10))
    first, second = (set(expert.parameters()) for expert in model.experts)
    assert not first & second
    parts = (model.backbone, *model.experts, model.routers)
    assert parameters(model) == sum(parameters(part) for part in parts)
    weights = [expert.get_parameter("body.layer3.0.conv1.weight") for expert in model.experts]
    assert not torch.equal(*weights)


def test_weights_of_resnet32_keep_their_names() -> None:
    """Checkpoints that were written before must still load."""
    parts = unallocated(ModelConfig())
    block = [f"conv{i}.weight" for i in (1, 2)]
    block += [f"bn{i}.{name}" for i in (1, 2) for name in ("weight", "bias")]

    def names(stage: str) -> set[str]:
        return {f"{stage}.{i}.{name}" for i in range(5) for name in block}

    trunk = {name for name, _ in parts.trunk.named_parameters()}
    assert trunk == {"conv.weight", "bn.weight", "bn.bias"} | names("stage1")
    expert = {name for name, _ in parts.experts[0].named_parameters()}
    assert expert == {"classifier.weight"} | names("stage2") | names("stage3")
