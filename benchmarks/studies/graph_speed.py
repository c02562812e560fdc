"""The study `graph-speed`: two exports of the same model, graph by graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime as ort
import typer

from benchmarks.flags import Seconds
from benchmarks.markdown import row
from benchmarks.turns import fastest
from serving.engine.graphs import Engine, Feeds, load_engine

BATCHES = (1, 8)


def graph_speed(
    first: Annotated[Path, typer.Argument(help="Model repository.")],
    second: Annotated[Path, typer.Argument(help="Another one of the same model.")],
    seconds: Seconds = 5.0,
) -> Iterator[str]:
    """How fast do two exports of the same model run, graph by graph?

    The bare graphs in ONNX Runtime with one thread, as the server opens them. Runs of the two take
    turns, so that a shared machine is as slow for one as for the other; the fastest run counts, as
    what other programs add is never negative.
    """
    engines = load_engine(first), load_engine(second)
    yield row(["graph", "batch", "first, ms", "second, ms", "times as fast"])
    yield row(["---"] * 5)
    inputs = {batch: _inputs(engines[0], batch) for batch in BATCHES}
    for i, name in enumerate(engines[0].sessions):
        for batch, feeds in inputs.items():
            runs = [_run(engine.sessions[name], feeds[i]) for engine in engines]
            one, other = fastest(runs, seconds)
            times = (f"{1e3 * one:.3f}", f"{1e3 * other:.3f}", f"{one / other:.2f}")
            yield row([f"`{name}`", batch, *times])


def _inputs(engine: Engine, batch: int) -> list[Feeds]:
    """What each stage's graph takes for a batch of noise."""
    spec, generator = engine.manifest.image, np.random.default_rng(0)
    images = generator.integers(0, 256, (batch, spec.height, spec.width, 3), dtype=np.uint8)
    return [step.feeds for step in engine.every_stage(images)]


def _run(session: ort.InferenceSession, feeds: Feeds) -> Callable[[], object]:
    return lambda: session.run(None, feeds)
