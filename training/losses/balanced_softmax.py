"""Logit adjustment: experts that are told how common the classes are, and so learn the rest.

Balanced softmax: Ren et al., NeurIPS 2020; logit adjustment: Menon et al., ICLR 2021, equation 10.
A strength of its own for each expert: BalPoE, Aimar et al., CVPR 2023. The inverse prior: SADE,
Zhang et al., NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.choices import BaseLoss
from training.config import LossConfig

_DEFAULT_STRENGTHS = LossConfig().prior_strengths


def expert_adjustments(config: LossConfig, class_counts: Tensor, num_experts: int) -> Tensor:
    """What this configuration adds to the logits of each expert while it learns, fp32 [K, C].

    Balanced softmax has strength 1 where no other is asked for.
    """
    strengths = config.prior_strengths
    if config.base is BaseLoss.BALANCED_SOFTMAX and strengths == _DEFAULT_STRENGTHS:
        strengths = (1.0,)
    return prior_adjustments(class_counts, strengths, config.inverse_prior_strengths, num_experts)


def prior_adjustments(
    class_counts: Tensor,
    strengths: tuple[float, ...],
    inverse_strengths: tuple[float, ...],
    num_experts: int,
) -> Tensor:
    """a_e = tau_e * log pi - lambda_e * log pi_bar, fp32 [K, C].

    Expert e learns softmax(z_e + a_e). Args: class_counts [C], which give the prior pi; tau and
    lambda, each one number for all experts or one for each.
    """
    prior = class_counts.double() / class_counts.sum()
    tau = _for_each_expert(strengths, num_experts)
    inverse_tau = _for_each_expert(inverse_strengths, num_experts)
    return (tau * prior.log() - inverse_tau * inverse_prior(prior).log()).float()


def inverse_prior(prior: Tensor) -> Tensor:
    """The same values handed out in reversed order of frequency: the rarest class gets the largest.

    Classes that are equally common are taken in their own order. Args: prior [C]. Returns [C].
    """
    rarest_first = prior.argsort(stable=True)
    inverse = torch.empty_like(prior)
    inverse[rarest_first] = prior[rarest_first].flip(0)
    return inverse


def prefix_corrections(adjustments: Tensor) -> Tensor:
    """What makes the mean of the first k experts as biased as the mean of all K, fp32 [K, C].

    Expert e learns softmax(z_e + a_e), so its logits z_e are those of the training set less a_e,
    and the mean of the first k is less abar_k, the mean of a_1 to a_k. Hence a first expert without
    adjustment leans to common classes, even where all experts together do not. The correction is
    abar_k - abar_K, to be added to the mean logits of the first k before deciding or answering. It
    is relative to what the whole ensemble answers: the last row is 0, and so is all of it where
    experts have the same adjustment. With strengths whose mean is 1, as in BalPoE, it is
    (tau_k - 1) * log prior with tau_k the mean strength of the first k.

    Args: adjustments [K, C], from `expert_adjustments`.
    """
    # Sums of so few fp32 numbers are exact in fp64, hence equal experts get zeros and no dust.
    counts = torch.arange(1, len(adjustments) + 1, device=adjustments.device).unsqueeze(1)
    means = adjustments.double().cumsum(dim=0) / counts
    return (means - means[-1]).float()


def _for_each_expert(strengths: tuple[float, ...], num_experts: int) -> Tensor:
    return torch.tensor(strengths, dtype=torch.float64).expand(num_experts).unsqueeze(1)
