"""The choice of device and precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.choices import Precision
from training.device import FullBatches, choose_device
from training.errors import ConfigError


def test_auto_takes_what_there_is() -> None:
    compute = choose_device("auto", Precision.FP32)
    assert compute.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_an_explicit_precision_is_kept(precision: Precision) -> None:
    compute = choose_device("cpu", precision)
    assert compute.precision is precision
    with compute.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision is Precision.BF16 else torch.float32)


def test_automatic_precision_is_settled() -> None:
    assert choose_device("cpu", Precision.AUTO).precision is not Precision.AUTO


@pytest.mark.parametrize("device", ["tpu9000", "", "cuda:x", "mps", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        choose_device(device, Precision.AUTO)


def test_only_batches_of_the_full_size_go_through_the_compiled_model() -> None:
    class Plain(nn.Module):
        def forward(self, images: torch.Tensor) -> str:
            return f"plain {len(images)}"

    model = Plain()
    compiled: list[int] = []
    model._compiled_call_impl = lambda images: compiled.append(len(images))
    run = FullBatches(model)
    outcomes = [run(torch.zeros(size)) for size in (4, 4, 3, 4)]
    assert compiled == [4, 4, 4]
    assert outcomes[2] == "plain 3"
