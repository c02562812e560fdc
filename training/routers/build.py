"""Makes the routers of a model, as its configuration names them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from training.config import ModelConfig, RouterKind
from training.routers.agreement import AgreementRouter
from training.routers.difference import DifferenceRouter
from training.routers.entropy import EntropyRouter
from training.routers.margin import MarginRouter
from training.routers.max_probability import MaxProbabilityRouter
from training.routers.ride import ride_routers


def build_routers(config: ModelConfig, experts: Iterable[nn.Module]) -> nn.ModuleList:
    """K-1 routers of `config.router_kind`, one for each expert but the last.

    An expert has an `embedding_size` and a `classifier` from embeddings to logits. Routers that
    need the classifier share it with their expert.
    """
    asking = list(experts)[:-1]
    top_logits = min(config.router_top_logits, config.num_classes)
    if config.router_kind is RouterKind.RIDE:
        sizes = [_embedding_size(expert) for expert in asking]
        return ride_routers(sizes, config.router_width, top_logits)
    return nn.ModuleList(
        _build(config, count, _classifier(expert), top_logits)
        for count, expert in enumerate(asking, start=1)
    )


def _build(config: ModelConfig, experts: int, classifier: nn.Module, top_logits: int) -> nn.Module:
    """The router that is asked after `experts` experts."""
    match config.router_kind:
        case RouterKind.DIFFERENCE:
            return DifferenceRouter(experts, classifier, top_logits, config.router_width)
        case RouterKind.AGREEMENT if experts > 1:
            return AgreementRouter(experts, classifier)
        case RouterKind.MARGIN:
            return MarginRouter()
        case RouterKind.ENTROPY:
            return EntropyRouter()
        case _:  # agreement too, after one expert
            return MaxProbabilityRouter()


def _classifier(expert: nn.Module) -> nn.Module:
    classifier = expert.classifier
    assert isinstance(classifier, nn.Module)
    return classifier


def _embedding_size(expert: nn.Module) -> int:
    size = expert.embedding_size
    assert isinstance(size, int)
    return size
