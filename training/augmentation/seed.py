"""Seeds for libraries that bring generators of their own."""

from __future__ import annotations

import torch


def draw_seed(generator: torch.Generator) -> int:
    """A seed drawn from a CPU generator, in [0, 2^63 - 1)."""
    return int(torch.randint(2**63 - 1, (), generator=generator))
