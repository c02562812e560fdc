"""Transforms of single large images, for the workers that decode them.

Geometry is Pillow's, so that an image is resized in training as it is by the server.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from training.augmentation.cutout import cutout
from training.augmentation.operations import GREY
from training.augmentation.policies import RANDAUGMENT_MAGNITUDE, RANDAUGMENT_STEPS
from training.augmentation.seed import draw_seed
from training.choices import Policy
from training.config import AugmentationConfig, DataConfig

_FILL = round(GREY * 255)


def training_transform(
    augmentation: AugmentationConfig, data: DataConfig
) -> Callable[[Image.Image, torch.Generator], Tensor]:
    """RGB image -> uint8 [3, S, S] (S is `data.image_size`), with draws from a CPU generator.

    A random part of the image, resized and flipped by chance; colour jitter; AutoAugment's policy
    for ImageNet or RandAugment; Cutout. The policy `none` cuts out the centre as in evaluation.
    The outcome depends on the image and the generator alone, and torch's global generator stays
    as it is. The transform can be pickled, for worker processes.
    """
    return _TrainingTransform(augmentation, data)


def evaluation_transform(data: DataConfig) -> Callable[[Image.Image], Tensor]:
    """RGB image -> uint8 [3, S, S]: what the server does to an image, bit for bit.

    The shorter side is resized to `data.resize_shorter_side`, bilinearly with antialiasing; then
    the centre of `data.image_size` is cut out.
    """
    transform: Callable[[Image.Image], Tensor] = v2.Compose([*_centre(data), v2.PILToTensor()])
    return transform


class _TrainingTransform:
    def __init__(self, augmentation: AugmentationConfig, data: DataConfig) -> None:
        self._transform = v2.Compose([*_pillow_steps(augmentation, data), v2.PILToTensor()])
        self._cutout = augmentation.cutout

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        # torchvision draws from the global generator of the CPU only.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw_seed(generator))
            changed: Tensor = self._transform(image)
        if self._cutout:
            changed = cutout(changed.unsqueeze(0), self._cutout, generator).squeeze(0)
        return changed


def _pillow_steps(augmentation: AugmentationConfig, data: DataConfig) -> list[v2.Transform]:
    if augmentation.policy is Policy.NONE:
        steps = _centre(data)
    else:
        steps = [v2.RandomResizedCrop(data.image_size), v2.RandomHorizontalFlip()]
    if jitter := augmentation.color_jitter:
        steps.append(v2.ColorJitter(jitter, jitter, jitter))
    if augmentation.policy is Policy.AUTOAUGMENT:
        steps.append(v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, fill=_FILL))
    elif augmentation.policy is Policy.RANDAUGMENT:
        steps.append(v2.RandAugment(RANDAUGMENT_STEPS, RANDAUGMENT_MAGNITUDE, fill=_FILL))
    return steps


def _centre(data: DataConfig) -> list[v2.Transform]:
    return [v2.Resize(data.resize_shorter_side), v2.CenterCrop(data.image_size)]
