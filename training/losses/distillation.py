"""Distillation: the mean of all experts, or each, learns from a larger model's mean.

Hinton et al. 2015, section 2; RIDE's optional self-distillation from 6 experts.
"""

from __future__ import annotations

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
