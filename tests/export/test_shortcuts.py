"""The shortcut as a convolution gives what the padded one gives."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from export.shortcuts import with_convolutions
from training.backbones.resnet32 import PaddedShortcut


@pytest.mark.parametrize(("channels", "wider"), [(16, 24), (24, 48), (16, 32), (3, 8)])
@pytest.mark.parametrize("size", [8, 9])
def test_the_convolution_gives_the_same_numbers(channels: int, wider: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, channels, size, size, generator=generator)
    padded = nn.Sequential(PaddedShortcut(channels, wider))
    changed = with_convolutions(padded)
    assert not any(isinstance(module, PaddedShortcut) for module in changed.modules())
    assert isinstance(padded[0], PaddedShortcut), "the model that was given stays as it is"
    with torch.no_grad():
        torch.testing.assert_close(changed(features), padded(features), rtol=0, atol=0)


def test_the_exported_stages_have_only_what_can_be_fused(repository: Path) -> None:
    graph = onnx.load(repository / "stage_1" / "1" / "model.onnx").graph
    assert not {"Slice", "Pad"} & {node.op_type for node in graph.node}
