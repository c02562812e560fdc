"""Multiply-adds of each part of a model, for one image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from serving.model.manifest import MultiplyAdds
from training.model import RideModel


def multiply_adds(model: RideModel, image_size: int) -> MultiplyAdds:
    """Count convolutions and matrix products (half of their floating-point operations).

    Args: a model on the CPU, in eval mode; the height and width of its images, in pixels.
    """
    image = torch.zeros(1, 3, image_size, image_size)
    with torch.inference_mode():
        features = model.backbone(image)
        logits, embedding = model.experts[0](features)
        return MultiplyAdds(
            backbone=_count(model.backbone, image),
            experts=tuple(_count(expert, features) for expert in model.experts),
            routers=tuple(_count(router, embedding, logits) for router in model.routers),
        )


def _count(module: nn.Module, *inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2
