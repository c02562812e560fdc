"""How fast two exports of the same model run, graph by graph.

The bare graphs in ONNX Runtime with one thread, as the server opens them. Runs of the two take
turns, so that a shared machine is as slow for one as for the other; the fastest run counts, as what
other programs add is never negative.

    python benchmarks/studies/graph_speed.py model_repository int8_repository
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.engine.graphs import Engine, Feeds, load_engine

BATCHES = (1, 8)


def main() -> None:
    """Print a row for each graph and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_KeepLines)
    parser.add_argument("first", type=Path, help="model repository")
    parser.add_argument("second", type=Path, help="another one of the same model")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row (default 5)")
    arguments = parser.parse_args()
    engines = load_engine(arguments.first), load_engine(arguments.second)
    print("| graph | batch | first, ms | second, ms | times as fast |")
    print("|---|---|---|---|---|")
    for row in rows(*engines, seconds=arguments.seconds):
        print(row, flush=True)


class _KeepLines(argparse.RawDescriptionHelpFormatter):
    """Shows the description as it is written."""


def rows(first: Engine, second: Engine, *, seconds: float) -> Iterator[str]:
    """Lines of a Markdown table."""
    inputs = {batch: _inputs(first, batch) for batch in BATCHES}
    for i, name in enumerate(first.sessions):
        for batch in BATCHES:
            runs = [_run(engine.sessions[name], inputs[batch][i]) for engine in (first, second)]
            one, other = fastest(runs, seconds)
            yield (
                f"| `{name}` | {batch} | {1e3 * one:.3f} | {1e3 * other:.3f} | {one / other:.2f} |"
            )


def fastest(runs: list[Callable[[], object]], seconds: float) -> list[float]:
    """Each one's shortest time in seconds, taking turns."""
    shortest = [float("inf")] * len(runs)
    end = time.monotonic() + seconds
    while time.monotonic() < end or float("inf") in shortest:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            shortest[i] = min(shortest[i], time.perf_counter() - start)
    return shortest


def _inputs(engine: Engine, batch: int) -> list[Feeds]:
    """What each stage's graph takes for a batch of noise."""
    spec, generator = engine.manifest.image, np.random.default_rng(0)
    images = generator.integers(0, 256, (batch, spec.height, spec.width, 3), dtype=np.uint8)
    return [feeds for feeds, _ in engine.every_stage(images)]


def _run(session: ort.InferenceSession, feeds: Feeds) -> Callable[[], object]:
    return lambda: session.run(None, feeds)


if __name__ == "__main__":
    main()
