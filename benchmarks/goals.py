"""What this server is meant to reach, computed from the figures of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Sections = Mapping[str, Mapping[str, Any]]
"""The data of the sections that were measured, by name."""

CPU_OVER_RAW = 1.25
P50_OVER_RAW = 1.5
TAIL = 3.0
GOODPUT = 0.9
READY_S = 2.0
GROWTH_MIB = 8.0
_BUSY_CLIENTS = 16


@dataclass(frozen=True)
class Goal:
    """One goal: what is compared, its figure, its bound in words, and whether it is reached."""

    what: str
    figure: str
    bound: str
    reached: bool


def goals(sections: Sections) -> list[Goal]:
    """Every goal that the sections tell something about."""
    return [goal for find in _GOALS for goal in find(sections)]


def raw_result(sections: Sections, work: str, *, threads: int | None = None) -> Any:
    """Bare ONNX Runtime's figures of a work: by the most threads, or by a number of them."""
    results = [
        result
        for result in sections.get("raw", {}).get("results", ())
        if result["work"] == work and threads in (None, result["threads"])
    ]
    return max(results, key=lambda result: result["threads"], default=None)


def points(sections: Sections, name: str) -> list[Any]:
    """The points of a server, this one's by its way or another's."""
    ours = sections.get("this-server", {})
    measured = ours[name] if name in ours else sections.get(name, {})
    return list(measured.get("points", ()))


def _cpu(sections: Sections) -> Iterator[Goal]:
    bare = raw_result(sections, "routed")
    for way in ("ride-grpc", "ride-http", "ride-png"):
        for point in points(sections, way):
            if bare is not None and point["clients"] >= _BUSY_CLIENTS:
                ratio = point["cpu_ms_per_image"] / bare["cpu_ms_per_image"]
                what = f"processor time an image over bare ONNX Runtime, {way}, {_crowd(point)}"
                yield _at_most(what, ratio, CPU_OVER_RAW, "{:.2f}")


def _faster(sections: Sections) -> Iterator[Goal]:
    for point in points(sections, "ride-grpc"):
        for rival in ("triton-bls", "triton-one-graph"):
            for other in points(sections, rival):
                if other["clients"] == point["clients"]:
                    ratio = point["images_per_s"] / other["images_per_s"]
                    what = f"images/s over {rival}, gRPC, {_crowd(point)}"
                    yield Goal(what, f"{ratio:.2f}", "more than 1", ratio > 1)


def _one_client(sections: Sections) -> Iterator[Goal]:
    bare = raw_result(sections, "routed", threads=1)
    for way in ("ride-grpc", "ride-http"):
        for point in points(sections, way):
            if bare is not None and point["clients"] == 1:
                ratio = point["p50_ms"] / bare["p50_ms"]
                yield _at_most(
                    f"p50 of one client over the graphs' own, {way}", ratio, P50_OVER_RAW
                )


def _load(sections: Sections) -> Iterator[Goal]:
    load = sections.get("load")
    if load is None:
        return
    moderate, too_much = load["moderate"], load["too_much"]
    if moderate["p50_ms"]:
        tail = moderate["p99_ms"] / moderate["p50_ms"]
        yield _at_most("p99 over p50 at 70 % of the most load", tail, TAIL)
    share = too_much["within_objective_per_s"] / load["most_images_per_s"]
    what = (
        f"answers within {load['objective_ms']:g} ms at 300 % load, as a share of the most "
        "that is answered without overload"
    )
    yield Goal(what, f"{share:.2f}", f"at least {GOODPUT:g}", share >= GOODPUT)


def _ready(sections: Sections) -> Iterator[Goal]:
    starts = [way["ready_s"] for way in sections.get("this-server", {}).values()]
    if starts:
        yield _at_most("seconds from start to ready, the slowest start", max(starts), READY_S)


def _memory(sections: Sections) -> Iterator[Goal]:
    memory = sections.get("memory")
    if memory is not None:
        growth = memory["later_mib"] - memory["warm_mib"]
        what = f"MiB that memory grew over {memory['requests']:,} requests"
        yield _at_most(what, growth, GROWTH_MIB, "{:.1f}")


def _at_most(what: str, value: float, bound: float, form: str = "{:.2f}") -> Goal:
    return Goal(what, form.format(value), f"at most {bound:g}", value <= bound)


def _crowd(point: Mapping[str, Any]) -> str:
    return f"{point['clients']} client" + ("s" if point["clients"] > 1 else "")


_GOALS: tuple[Callable[[Sections], Iterator[Goal]], ...] = (
    _cpu,
    _faster,
    _one_client,
    _load,
    _ready,
    _memory,
)
