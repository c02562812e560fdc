"""The diversity loss with distribution-aware temperature (RIDE, section 3.2).

Both published forms of each: the paper's equations, and what the authors' code computes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.choices import TemperatureForm
from training.errors import ConfigError


def class_temperatures(
    class_counts: Tensor, form: TemperatureForm, eta: float, gamma: float
) -> Tensor:
    """Higher temperature for larger classes, fp32 [C].

    psi_k = gamma * C * n_k / N + 1 - gamma; the paper: T_k = eta * psi_k + eta * (1 - max psi);
    the code: T_k = eta * psi_k / max psi. Both give eta to the largest class.

    Raises:
        ConfigError: if gamma is so large that a small class would get no positive temperature.
    """
    counts = class_counts.double()
    psi = gamma * len(counts) * counts / counts.sum() + 1 - gamma
    if form is TemperatureForm.PAPER:
        temperatures = eta * psi + eta * (1 - psi.max())
    else:
        temperatures = eta * psi / psi.max()
    if temperatures.min() <= 0:
        raise ConfigError(
            f"loss.temperature_gamma is {gamma}; with these class sizes, the smallest class would "
            f"get a temperature of {temperatures.min():.3g}, and it must be positive: lower gamma"
        )
    return temperatures.float()


def diversity_from_mean(logits: Tensor, temperatures: Tensor) -> Tensor:
    """sum_i Tbar^2 * KL(softmax(stopgrad(zbar)/T) || softmax(z_i/T)), the code's form.

    Args: logits [K, N, C], temperatures [C]. KL is averaged over the batch, summed over experts.
    """
    mean = F.log_softmax(logits.detach().mean(dim=0) / temperatures, dim=1)
    each = F.log_softmax(logits / temperatures, dim=2)
    divergence = (mean.exp() * (mean - each)).sum(dim=2).mean(dim=1)
    return temperatures.mean() ** 2 * divergence.sum()


def diversity_pairwise(logits: Tensor, temperatures: Tensor) -> Tensor:
    """sum_i 1/(K-1) * sum_{j != i} KL(phi_i || phi_j), the paper's form (equation 2).

    Args: logits [K, N, C], temperatures [C]. Zero for a single expert.
    """
    if len(logits) == 1:
        return logits.new_zeros(())
    log_phi = F.log_softmax(logits / temperatures, dim=2)
    phi = log_phi.exp()
    entropy = (phi * log_phi).sum(dim=2).mean(dim=1)  # [K], the negative entropy of each
    cross = torch.einsum("inc,jnc->ij", phi, log_phi) / logits.shape[1]
    return (entropy.unsqueeze(1) - cross).sum() / (len(logits) - 1)


def no_diversity(logits: Tensor, _temperatures: Tensor) -> Tensor:
    """0."""
    return logits.new_zeros(())
