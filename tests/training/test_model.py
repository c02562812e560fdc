"""The network: sizes worked out by hand, and each part against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from training.backbones.classifier import CosineClassifier
from training.backbones.resnet32 import PaddedShortcut
from training.choices import Family
from training.config import ModelConfig
from training.model import RideModel, prefix_means


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def convolution(inputs: int, outputs: int) -> int:
    """Weights of a 3x3 convolution without bias and of the batch norm behind it."""
    return 9 * inputs * outputs + 2 * outputs


def stage(inputs: int, outputs: int) -> int:
    """Five blocks of two convolutions; shortcuts have no weights."""
    return convolution(inputs, outputs) + 9 * convolution(outputs, outputs)


def random_images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_trunk_has_24_thousand_weights() -> None:
    model = RideModel(ModelConfig())
    assert convolution(3, 16) + stage(16, 16) == 23_824
    assert parameters(model.backbone) == 23_824


@pytest.mark.parametrize(
    ("reduced", "cosine", "widths"),
    [(True, True, (24, 48)), (False, True, (32, 64)), (True, False, (24, 48))],
)
def test_size_of_an_expert(reduced: bool, cosine: bool, widths: tuple[int, int]) -> None:
    model = RideModel(ModelConfig(reduced_width=reduced, cosine_classifier=cosine))
    classifier = 100 * widths[1] + (0 if cosine else 100)
    expected = stage(16, widths[0]) + stage(*widths) + classifier
    assert [parameters(expert) for expert in model.experts] == [expected] * 3


@pytest.mark.parametrize("reduced", [True, False])
def test_a_teacher_is_four_times_as_wide(reduced: bool) -> None:
    config = ModelConfig(backbone=Family.RESNET32X4, num_experts=1, reduced_width=reduced)
    model, widths = RideModel(config), (96, 192) if reduced else (128, 256)
    assert parameters(model.backbone) == convolution(3, 64) + stage(64, 64)
    assert parameters(model.experts[0]) == stage(64, widths[0]) + stage(*widths) + 100 * widths[1]


def test_a_reduced_expert_has_253_thousand_weights() -> None:
    assert parameters(RideModel(ModelConfig()).experts[0]) == 253_344


def test_routers_share_their_last_layer() -> None:
    model = RideModel(ModelConfig(num_experts=4))
    assert len(model.routers) == 3
    assert parameters(model.routers) == 3 * (48 * 16 + 16) + (30 + 16 + 1)


def test_a_single_expert_needs_no_router() -> None:
    assert len(RideModel(ModelConfig(num_experts=1)).routers) == 0


def test_routers_look_at_no_more_logits_than_there_are_classes() -> None:
    model = RideModel(ModelConfig(num_classes=10, router_top_logits=30)).eval()
    outputs = model(random_images(2))
    assert model.routers[0](outputs.embeddings[0], outputs.logits[0]).shape == (2,)


@pytest.mark.parametrize(("reduced", "embedding"), [(True, 48), (False, 64)])
def test_output_shapes(reduced: bool, embedding: int) -> None:
    config = ModelConfig(num_classes=7, num_experts=2, reduced_width=reduced)
    outputs = RideModel(config)(random_images(5))
    assert outputs.logits.shape == (2, 5, 7)
    assert outputs.embeddings.shape == (2, 5, embedding)
    assert outputs.logits.dtype == outputs.embeddings.dtype == torch.float32


def test_spatial_size_halves_in_each_stage_of_an_expert() -> None:
    model = RideModel(ModelConfig())
    features = model.backbone(random_images(1))
    expert = model.experts[0]
    assert isinstance(expert.stage2, nn.Module)
    assert isinstance(expert.stage3, nn.Module)
    middle = expert.stage2(features)
    assert (features.shape[1:], middle.shape[1:]) == ((16, 32, 32), (24, 16, 16))
    assert expert.stage3(middle).shape[1:] == (48, 8, 8)


def test_experts_start_from_different_weights() -> None:
    outputs = RideModel(ModelConfig()).eval()(random_images(1))
    assert not torch.allclose(outputs.embeddings[0], outputs.embeddings[1])


def test_in_eval_mode_a_row_does_not_depend_on_its_batch() -> None:
    model = RideModel(ModelConfig()).eval()
    images = random_images(4)
    alone, together = model(images[2:3]).logits[:, 0], model(images).logits[:, 2]
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_the_backbone_normalises_as_cifar_is_normalised() -> None:
    backbone = RideModel(ModelConfig()).backbone.eval()
    images = random_images(2)
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
    torch.testing.assert_close(backbone(images), backbone.trunk((images - mean) / std))


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 24), (24, 48), (16, 32), (3, 8)])
def test_the_shortcut_subsamples_and_pads_channels_on_both_sides(inputs: int, outputs: int) -> None:
    x = torch.rand(2, inputs, 6, 8)
    y = PaddedShortcut(inputs, outputs)(x)
    assert y.shape == (2, outputs, 3, 4)
    before = (outputs - inputs) // 2
    for channel in range(outputs):
        if before <= channel < before + inputs:
            assert torch.equal(y[:, channel], x[:, channel - before, ::2, ::2])
        else:
            assert not y[:, channel].any()


def test_the_cosine_classifier_measures_angles() -> None:
    classifier = CosineClassifier(6, 4)
    embedding = torch.randn(3, 6)
    logits = classifier(embedding)
    for n, k in np.ndindex(3, 4):
        f, w = embedding[n].numpy(), classifier.weight[k].detach().numpy()
        cosine = float(f @ w) / math.sqrt(float(f @ f) * float(w @ w))
        assert logits[n, k].item() == pytest.approx(30 * cosine, abs=1e-4)
    torch.testing.assert_close(classifier(embedding * 100), logits)


def test_a_routers_score_is_its_formula() -> None:
    model = RideModel(ModelConfig())
    generator = torch.Generator().manual_seed(4)
    embedding = torch.rand(5, 48, generator=generator)
    prefix = torch.randn(5, 100, generator=generator) * 10
    for router in model.routers:
        assert isinstance(router.hidden, nn.Linear)
        assert isinstance(router.output, nn.Linear)
        a, b = (router.hidden.weight.detach().numpy(), router.hidden.bias.detach().numpy())
        w, c = router.output.weight.detach().numpy()[0], router.output.bias.item()
        for n, score in enumerate(router(embedding, prefix).tolist()):
            f = embedding[n].numpy()
            hidden = np.maximum(a @ (f / np.linalg.norm(f)) + b, 0)
            top = np.sort(prefix[n].numpy())[::-1][:30]
            logit = float(w[:30] @ top + w[30:] @ hidden) + c
            assert score == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-4)
            assert router.logit(embedding, prefix)[n].item() == pytest.approx(  # type: ignore[operator]
                logit, rel=1e-4, abs=1e-4
            )


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_prefix_means_are_means_of_the_first_experts(
    experts: int, count: int, classes: int, seed: int
) -> None:
    logits = torch.randn(experts, count, classes, generator=torch.Generator().manual_seed(seed))
    means = prefix_means(logits)
    for k in range(experts):
        expected = np.mean(logits[: k + 1].numpy(), axis=0)
        np.testing.assert_allclose(means[k].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_logits_keep_their_precision_under_bf16() -> None:
    classifier = CosineClassifier(48, 100)
    embedding = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    embedding = embedding.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(embedding)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, classifier(embedding.float()), atol=1e-4, rtol=0)
