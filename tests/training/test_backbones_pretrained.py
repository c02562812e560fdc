"""Published weights: the same network as torchvision's, and what a narrower expert takes of it.

Networks are short (one or two blocks a stage), torchvision's and ours alike.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import mobilenet_v3_large
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.swin_transformer import SwinTransformer

from tests.short_networks import shorten
from training.backbones import pretrained
from training.backbones.expert import TorchvisionExpert
from training.backbones.pretrained import PretrainedReport, load_pretrained, read_weights
from training.backbones.registry import FAMILIES
from training.choices import Family
from training.config import ModelConfig
from training.errors import CheckpointError, ConfigError
from training.model import RideModel

WIDTHS = (96, 192, 384, 768)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def torchvision_network(family: Family) -> nn.Module:
    """Its whole network, as short as ours; no two weights are alike."""
    torch.manual_seed(0)
    network: nn.Module
    match family:
        case Family.RESNET10:
            network = ResNet(BasicBlock, [1, 1, 1, 1])
        case Family.RESNEXT50:
            network = ResNet(Bottleneck, [1, 1, 2, 1], groups=32, width_per_group=4)
        case Family.SWIN_T:
            network = SwinTransformer([4, 4], 96, [2, 1, 1, 1], [3, 6, 12, 24], [7, 7])
        case Family.CONVNEXT_T:
            following = (*WIDTHS[1:], None)
            network = ConvNeXt(
                [CNBlockConfig(*stage, 1) for stage in zip(WIDTHS, following, strict=True)],
                layer_scale=0.5,
            )
        case _:
            network = mobilenet_v3_large(weights=None)
    for weight in network.parameters():
        if weight.dim() == 1:
            nn.init.uniform_(weight, 0.5, 1.5)
    return network.eval()


def config(family: Family, *, reduced: bool, cut: str | None = None) -> ModelConfig:
    return ModelConfig(
        backbone=family,
        cut=cut,
        num_classes=1000,
        num_experts=2,
        reduced_width=reduced,
        cosine_classifier=False,
    )


def body(model: RideModel, expert: int) -> nn.Sequential:
    found = model.experts[expert]
    assert isinstance(found, TorchvisionExpert)
    return found.body


CUTS = [
    (Family.RESNET10, "layer3"),
    (Family.RESNEXT50, "layer4"),
    (Family.SWIN_T, "stage3"),
    (Family.CONVNEXT_T, "stage4"),
    (Family.MOBILENET_V3, "stage4"),
]


@pytest.mark.parametrize(("family", "cut"), CUTS)
def test_a_full_expert_with_published_weights_is_torchvisions_network(
    family: Family, cut: str
) -> None:
    network = torchvision_network(family)
    model = RideModel(config(family, reduced=False, cut=cut)).eval()
    report = load_pretrained(model, network.state_dict())
    assert report.taken > 0
    assert (report.thinned, report.left) == (0, 2 * 2)
    images = torch.rand(2, 3, 64, 64)
    normalised = (images - model.backbone.mean) / model.backbone.std
    classifier = network.get_submodule(FAMILIES[family].published_classifier or "")
    with torch.inference_mode():
        expected = network(normalised)
        for embedding in model(images).embeddings:
            torch.testing.assert_close(classifier(embedding), expected, atol=1e-4, rtol=1e-4)


def test_the_classifier_keeps_its_initialisation() -> None:
    model = RideModel(config(Family.RESNET10, reduced=True))
    before = [expert.classifier.weight.clone() for expert in model.experts]  # type: ignore[union-attr, operator]
    load_pretrained(model, torchvision_network(Family.RESNET10).state_dict())
    for expert, weight in zip(model.experts, before, strict=True):
        assert torch.equal(expert.classifier.weight, weight)  # type: ignore[union-attr, arg-type]


def test_the_report_counts_tensors() -> None:
    """A convolution has one, the batch norm behind it four."""
    model = RideModel(config(Family.RESNET10, reduced=True))
    report = load_pretrained(model, torchvision_network(Family.RESNET10).state_dict())
    stem, layer1, layer2, expert = 1 * 5, 2 * 5, 3 * 5, 2 * 3 * 5
    assert report == PretrainedReport(stem + layer1 + layer2, thinned=2 * expert, left=2 * 2)


def without_fourths(tensor: Tensor, dimension: int) -> np.ndarray:
    """Leave out channels 3, 7, 11 .."""
    values = tensor.numpy()
    return np.delete(values, np.arange(3, values.shape[dimension], 4), dimension)


def test_a_narrower_expert_takes_three_of_four_channels_from_each_group() -> None:
    """Channels that are left out were dead here, so nothing is missing in the narrower one."""
    network = torchvision_network(Family.RESNEXT50)
    for name, weight in network.named_parameters():
        if name.startswith(("layer3", "layer4")):
            weight.data[3::4] = 0
    models = [RideModel(config(Family.RESNEXT50, reduced=reduced)) for reduced in (False, True)]
    for model in models:
        load_pretrained(model.eval(), network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        full, reduced = (model(images).embeddings for model in models)
    assert full.abs().max() > 0.01
    np.testing.assert_allclose(without_fourths(full, 2), reduced.numpy(), atol=1e-4, rtol=1e-4)


def test_a_narrower_expert_takes_three_of_four_channels_from_each_attention_head() -> None:
    weights = torchvision_network(Family.SWIN_T).state_dict()
    model = RideModel(config(Family.SWIN_T, reduced=True))
    load_pretrained(model, weights)
    published = weights["features.5.0.attn.qkv.weight"].view(3, 12, 32, 384)
    expected = without_fourths(torch.from_numpy(without_fourths(published, 2)), 3)
    found = body(model, 0).get_parameter("features.5.0.attn.qkv.weight")
    np.testing.assert_array_equal(found.detach().view(3, 12, 24, 288).numpy(), expected)
    merging = body(model, 0).get_parameter("features.6.reduction.weight").detach()
    published = weights["features.6.reduction.weight"].view(768, 4, 384)
    expected = without_fourths(torch.from_numpy(without_fourths(published, 2)), 0)
    np.testing.assert_array_equal(merging.view(576, 4, 288).numpy(), expected)


def test_widths_that_are_rounded_take_evenly_spaced_channels() -> None:
    weights = torchvision_network(Family.MOBILENET_V3).state_dict()
    model = RideModel(config(Family.MOBILENET_V3, reduced=True))
    load_pretrained(model, weights)
    name = "features.7.block.2.0.weight"  # 240 -> 80 channels, here 184 -> 64
    rows = [i * 80 // 64 for i in range(64)]
    columns = [i * 240 // 184 for i in range(184)]
    expected = weights[name].numpy()[np.ix_(rows, columns)]
    np.testing.assert_array_equal(body(model, 1).get_parameter(name).detach().numpy(), expected)


def test_older_files_without_batch_counts_are_taken_too() -> None:
    weights = torchvision_network(Family.RESNET10).state_dict()
    older = {name: t for name, t in weights.items() if "num_batches_tracked" not in name}
    load_pretrained(RideModel(config(Family.RESNET10, reduced=True)), older)


@pytest.mark.parametrize("reduced", [True, False])
def test_weights_of_another_network_are_refused(reduced: bool) -> None:
    model = RideModel(config(Family.RESNEXT50, reduced=reduced))
    right = torchvision_network(Family.RESNEXT50).state_dict()
    kernel = right["layer3.0.conv2.weight"]
    for wrong, problem in (
        ({}, r"bn1.bias should be \(64,\), but is absent"),
        (torchvision_network(Family.RESNET10).state_dict(), "not of resnext50"),
        ({n: t for n, t in right.items() if n != "layer4.0.bn2.bias"}, r"layer4.0.bn2.bias"),
        (right | {"layer3.2.bn1.bias": torch.zeros(4)}, "should be absent, but is"),
        (right | {"layer3.0.conv2.weight": kernel[:384, :12]}, r"layer3.0.conv2.weight should be"),
    ):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ConfigError, match=problem):
            load_pretrained(model, wrong)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])


def test_there_are_no_published_weights_for_resnet32() -> None:
    with pytest.raises(ConfigError, match="publishes no weights for resnet32"):
        load_pretrained(RideModel(ModelConfig()), {})


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_weights_is_read_back(tmp_path: Path, zipped: bool) -> None:
    """Torchvision publishes in torch's older format, too."""
    weights = nn.BatchNorm2d(3).state_dict()
    torch.save(weights, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "w.pth")
    assert list(found) == list(weights)
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("must never be printed",))


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (Hostile(), "other than weights"),
        ([torch.zeros(2)], "not a plain state dict"),
        ({"a": 3}, "not a plain state dict"),
        ({1: torch.zeros(2)}, "not a plain state dict"),
        ({"a": torch.zeros(2, device="meta")}, "not a plain state dict"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "not a plain state dict"),
        (nn.Linear(2, 2), "other than weights"),
    ],
)
def test_a_file_of_anything_else_is_refused(
    tmp_path: Path, content: object, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=problem):
        read_weights(tmp_path / "w.pth")
    assert "never" not in capsys.readouterr().out


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(torch.ones(1000).numpy().tobytes()) + 5] ^= 1
    for content in (whole[:-100], bytes(flipped), b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="w.pth is damaged"):
            read_weights(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file of weights"):
        read_weights(tmp_path)


def test_large_files_and_archives_that_unpack_to_large_ones_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "MAX_BYTES", 10_000)
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "large.pth")
    with pytest.raises(CheckpointError, match="is larger than 1 GiB"):
        read_weights(tmp_path / "large.pth")
    with (
        zipfile.ZipFile(tmp_path / "large.pth") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="unpacked it is larger than 1 GiB"):
        read_weights(tmp_path / "bomb.pth")
