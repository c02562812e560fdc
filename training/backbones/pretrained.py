"""Weights that torchvision publishes, for the trunk and for every expert."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training.backbones.expert import TorchvisionExpert
from training.backbones.registry import FAMILIES, build_parts
from training.config import ModelConfig
from training.errors import CheckpointError, ConfigError
from training.model import RideModel

MAX_BYTES = 2**30


@dataclass(frozen=True)
class PretrainedReport:
    """How many tensors of trunk and experts were taken whole, thinned to fit, or left alone."""

    taken: int
    thinned: int
    left: int


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict that `torch.save` wrote, weights only, onto the CPU.

    Raises:
        CheckpointError: if there is no such file, it is over 1 GiB, or it holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than 1 GiB, so it was not opened")
    try:
        if zipfile.is_zipfile(path):  # older files are not
            _check_archive(path)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is damaged or holds something other than weights, so it was not opened"
        ) from None
    except Exception as error:  # noqa: BLE001, a damaged archive makes torch raise anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{path} is damaged or not a file of weights ({reason})") from None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and _is_plain(value) for name, value in content.items()
    ):
        raise CheckpointError(
            f"{path} is not a plain state dict, name -> tensor, as torchvision publishes them"
        )
    return content


@torch.no_grad()
def load_pretrained(model: RideModel, weights: Mapping[str, Tensor]) -> PretrainedReport:
    """Start a model from the published weights of its whole network, under torchvision's names.

    The trunk and the late stages of every expert take them; classifiers keep their
    initialisation. Where a reduced expert has q of p channels it takes the channels
    floor(i * p / q), i < q, with p and q whatever that dimension has. At 3/4 this leaves out every
    fourth channel, hence the same share of every convolution group, attention head and merged
    patch, so that what is taken still belongs together.

    Raises:
        ConfigError: if the weights are of another network, or none are published for this one.
    """
    classifier = FAMILIES[model.config.backbone].published_classifier
    if classifier is None:
        raise ConfigError(
            f"torchvision publishes no weights for {model.config.backbone}; train it from scratch"
        )
    stages = {
        name: tensor for name, tensor in weights.items() if not name.startswith(f"{classifier}.")
    }
    _require_same_network(stages, model.config)
    experts = [expert for expert in model.experts if isinstance(expert, TorchvisionExpert)]
    taken = thinned = 0
    for part in (model.backbone.trunk, *(expert.body for expert in experts)):
        for name, tensor in _learnt(part.state_dict()).items():
            published = stages[name]
            tensor.copy_(_thin(published, tensor.shape))
            if published.shape == tensor.shape:
                taken += 1
            else:
                thinned += 1
    left = sum(len(expert.classifier.state_dict()) for expert in experts)
    return PretrainedReport(taken, thinned, left)


def _is_plain(value: object) -> bool:
    """A dense tensor with its numbers here: a file may also hold sparse, nested or empty shells."""
    return (
        isinstance(value, Tensor)
        and not (value.is_nested or value.is_quantized)
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise zipfile.BadZipFile("unpacked it is larger than 1 GiB")
        if (damaged := archive.testzip()) is not None:  # torch.load does not look at checksums
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def _require_same_network(stages: Mapping[str, Tensor], config: ModelConfig) -> None:
    """The same names and shapes as the network at full width, no more and no less."""
    with torch.device("meta"):
        parts = build_parts(replace(config, reduced_width=False, num_experts=1))
    expected: dict[str, Tensor] = parts.trunk.state_dict()
    assert isinstance(parts.experts[0], TorchvisionExpert)
    expected |= parts.experts[0].body.state_dict()
    wanted, given = _shapes(expected), _shapes(stages)
    if wrong := sorted(wanted.items() ^ given.items()):
        name, _ = wrong[0]
        raise ConfigError(
            f"these weights are not of {config.backbone}: {name} should be "
            f"{wanted.get(name, 'absent')}, but is {given.get(name, 'absent')}"
        )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in _learnt(tensors).items()}


def _learnt(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without whole numbers: indices, which are constant, and counts, which older files lack."""
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def _thin(published: Tensor, shape: torch.Size) -> Tensor:
    """Evenly spaced channels of `published`, in every dimension as many as `shape` says."""
    for dimension, size in enumerate(shape):
        channels = torch.arange(size) * published.shape[dimension] // size
        published = published.index_select(dimension, channels)
    return published
