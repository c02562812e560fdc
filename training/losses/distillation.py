"""Distillation: the mean of all experts, or each, learns from a larger model's mean.

Hinton et al. 2015, section 2; RIDE's optional self-distillation from 6 experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student_logits: Tensor, teacher_mean: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    Args: logits [N, C] of the student and the teacher's mean. The teacher gets no gradient.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_mean.detach() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def distil_mean(logits: Tensor, teacher_mean: Tensor, temperature: float) -> Tensor:
    """The mean of the student's experts imitates. Args: logits [K, N, C]."""
    return distillation_loss(logits.mean(dim=0), teacher_mean, temperature)


def distil_each(logits: Tensor, teacher_mean: Tensor, temperature: float) -> Tensor:
    """Every expert imitates by itself, summed over experts. Args: logits [K, N, C]."""
    return torch.stack([distillation_loss(z, teacher_mean, temperature) for z in logits]).sum()
