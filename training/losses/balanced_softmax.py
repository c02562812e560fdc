"""Balanced softmax: what a model learns is corrected by how frequent each class is.

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, equation 3;
with another strength, logit adjustment (Menon et al., ICLR 2021, equation 10).
"""

from __future__ import annotations

import torch
from torch import Tensor


def prior_adjustments(class_counts: Tensor, strengths: tuple[float, ...], experts: int) -> Tensor:
    """tau_e * log(n_k / N), added to the logits while training, fp32 [K, C].

    `strengths` holds one number for all experts or one for each.
    """
    counts = class_counts.double()
    each = torch.tensor(strengths, dtype=torch.float64).expand(experts)
    return (each.unsqueeze(1) * (counts / counts.sum()).log()).float()
