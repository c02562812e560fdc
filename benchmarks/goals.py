"""What this server is meant to reach, computed from the figures of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Sections = Mapping[str, Mapping[str, Any]]
"""The data of the sections that were measured, by name."""

CPU_OVER_RAW = {"ride-grpc": 1.15, "ride-http": 1.25, "ride-png": 1.4}
BLS_SPEEDUP, FULL_SPEEDUP, INT8_OVER_ONE_GRAPH = 1.3, 1.6, 3.0
INT8_SPEEDUP = 2.2
P50_OVER_RAW, P50_PLUS_MS = 1.3, 0.5
TAIL = 5.0
GOODPUT = 0.9
READY_S = 2.0
RESIDENT_MIB, GROWTH_MIB = 300.0, 8.0
_MANY_CLIENTS = 64
_BUSY_CLIENTS = 16
_WEB_SERVERS = ("litserve", "bentoml", "ray-serve", "mlserver", "fastapi-torch")


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


def raw_result(sections: Sections, work: str) -> Any:
    """Bare ONNX Runtime's figures of a work, by the most threads."""
    results = [
        result for result in sections.get("raw", {}).get("results", ()) if result["work"] == work
    ]
    return max(results, key=lambda result: result["threads"], default=None)


def points(sections: Sections, name: str) -> list[Any]:
    """The points of a server, this one's by its way or another's."""
    ours = sections.get("this-server", {})
    measured = ours[name] if name in ours else sections.get(name, {})
    return list(measured.get("points", ()))


def _cpu(sections: Sections) -> Iterator[Goal]:
    for way, bound in CPU_OVER_RAW.items():
        for point in points(sections, way):
            if point["clients"] == _MANY_CLIENTS:
                ratio = point["cpu_ms_per_image"] / point["bare_cpu_ms"]
                what = f"processor time an image over bare ONNX Runtime, {way}, {_crowd(point)}"
                yield _at_most(what, ratio, bound)


def _faster(sections: Sections) -> Iterator[Goal]:
    rivals = {"triton-bls": BLS_SPEEDUP, "ride-full": FULL_SPEEDUP, "triton-one-graph": 1.0}
    for rival, bound in rivals.items():
        yield from _ahead(sections, "ride-grpc", rival, bound)
    for rival in _WEB_SERVERS:
        yield from _ahead(sections, "ride-http", rival, 1.0)
    yield from _ahead(sections, "int8", "triton-one-graph", INT8_OVER_ONE_GRAPH)


def _ahead(sections: Sections, ours: str, rival: str, bound: float) -> Iterator[Goal]:
    for point in points(sections, ours):
        for other in points(sections, rival):
            if other["clients"] == point["clients"] >= _BUSY_CLIENTS:
                ratio = point["images_per_s"] / other["images_per_s"]
                what = f"images/s of {ours} over {rival}, {_crowd(point)}"
                yield Goal(what, f"{ratio:.2f}", f"at least {bound:g}", ratio >= bound)


def _int8(sections: Sections) -> Iterator[Goal]:
    bare, quantised = raw_result(sections, "routed"), sections.get("int8", {}).get("raw")
    if bare is not None and quantised is not None:
        ratio = quantised["images_per_s"] / bare["images_per_s"]
        what = "images/s of int8 over fp32, bare ONNX Runtime"
        yield Goal(what, f"{ratio:.2f}", f"at least {INT8_SPEEDUP:g}", ratio >= INT8_SPEEDUP)


def _one_client(sections: Sections) -> Iterator[Goal]:
    for way in ("ride-grpc", "ride-http"):
        for point in points(sections, way):
            if point["clients"] == 1:
                alone = point["bare_p50_ms"]
                bound = P50_OVER_RAW * alone + P50_PLUS_MS
                what = f"p50 of one client in ms, {way}; the graphs alone take {alone:.2f}"
                figure, wanted = f"{point['p50_ms']:.2f}", f"at most {bound:.2f}"
                yield Goal(what, figure, wanted, point["p50_ms"] <= bound)


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
        what = "resident MiB after that"
        yield _at_most(what, memory["later_mib"], RESIDENT_MIB, "{:.0f}")


def _at_most(what: str, value: float, bound: float, form: str = "{:.2f}") -> Goal:
    return Goal(what, form.format(value), f"at most {bound:g}", value <= bound)


def _crowd(point: Mapping[str, Any]) -> str:
    return f"{point['clients']} client" + ("s" if point["clients"] > 1 else "")


_GOALS: tuple[Callable[[Sections], Iterator[Goal]], ...] = (
    _cpu,
    _faster,
    _int8,
    _one_client,
    _load,
    _ready,
    _memory,
)
