"""Which routers there are, and how a model's are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import nn

from training.choices import RouterKind
from training.config import ModelConfig
from training.routers.agreement import agreement_routers
from training.routers.difference import difference_routers
from training.routers.entropy import EntropyRouter
from training.routers.margin import MarginRouter
from training.routers.max_probability import MaxProbabilityRouter
from training.routers.ride import ride_routers

RouterBuilder = Callable[[ModelConfig, Sequence[nn.Module]], Iterable[nn.Module]]
"""Makes the routers that are asked after the first, second, .. of these experts."""


def _for_each(router: Callable[[], nn.Module]) -> RouterBuilder:
    return lambda _config, experts: [router() for _ in experts]


ROUTERS: dict[RouterKind, RouterBuilder] = {
    RouterKind.RIDE: ride_routers,
    RouterKind.DIFFERENCE: difference_routers,
    RouterKind.MAX_PROBABILITY: _for_each(MaxProbabilityRouter),
    RouterKind.MARGIN: _for_each(MarginRouter),
    RouterKind.ENTROPY: _for_each(EntropyRouter),
    RouterKind.AGREEMENT: agreement_routers,
}


def build_routers(config: ModelConfig, experts: Iterable[nn.Module]) -> nn.ModuleList:
    """K-1 routers of `config.router_kind`, one for each expert but the last.

    An expert has an `embedding_size` and a `classifier` from embeddings to logits. Routers that
    need the classifier share it with their expert.
    """
    top_logits = min(config.router_top_logits, config.num_classes)
    config = replace(config, router_top_logits=top_logits)
    return nn.ModuleList(ROUTERS[config.router_kind](config, list(experts)[:-1]))
