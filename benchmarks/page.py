"""docs/benchmarks.md, made of the JSON beside it: every figure and every verdict is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.goals import Sections, goals, points, raw_result
from benchmarks.markdown import cells, table
from benchmarks.servers.catalogue import OTHER_SERVERS
from benchmarks.store import Store

_WORKS = {
    "routed": "routed: images stop at their expert",
    "all-experts": "all experts, a graph each",
    "one-graph": "all experts, one merged graph",
}
_SPEED = {"images/s": "{images_per_s:,.0f}"}
_LATENCIES = {"p50 ms": "{p50_ms:.2f}", "p99 ms": "{p99_ms:.2f}"}
_COST = {"CPU ms an image": "{cpu_ms_per_image:.2f}"}
_EXPERTS = {"experts": "{mean_experts:.2f}"}
_BARE_COLUMNS = {"threads": "{threads}", **_SPEED, **_COST, **_EXPERTS, **_LATENCIES}
_RESIDENT = {"resident MiB": "{resident_mib:,.0f}"}
_LOADED = {"clients": "{clients}", **_SPEED, **_LATENCIES, **_COST}
_GROWTH_COLUMNS = {**_LOADED, **_RESIDENT}
_POINT_COLUMNS = {**_LOADED, "over bare routed": "{over_bare}", **_RESIDENT}
_LOAD_COLUMNS = {
    "offered/s": "{offered_per_s:,.0f}",
    "answered/s": "{answered_per_s:,.0f}",
    "good/s": "{within_objective_per_s:,.0f}",
    "refused": "{refused:.1%}",
    "failed": "{failed:.1%}",
    "p50 ms": "{p50_ms:.1f}",
    "p99 ms": "{p99_ms:.1f}",
    "experts": "{mean_experts}",
    "cores that the generator took": "{generator_cores:.2f}",
}
_INTRODUCTION = """\
# Benchmarks

Written by `ride bench`; change nothing by hand. `ride bench --help` says how to repeat it.

Every load sends real images, CIFAR-100's test images in `tests/data`, one in a request, so that
the usual share of them goes on to further experts. The load generator runs on the same cores as the
server. So **processor time an image**, user and system, of all of a server's processes is the
figure to compare: it hardly depends on what else runs. Images a second, and latency with more
clients than cores, include the generator's share of the machine. gRPC and binary HTTP are driven by
NVIDIA's perf_analyzer, whose images/s here are clients over mean latency, everything else by
`benchmarks/http_load.py`.
"""


def page(store: Store) -> str:
    """The whole page."""
    data: Sections = {name: section.data for name, section in store.sections.items()}
    parts = [_INTRODUCTION, *_circumstances(store), *_goals(data)]
    for name, write in _PARTS.items():
        if name in data or write is _servers:
            parts += write(data)
    return "\n".join(parts)


def _circumstances(store: Store) -> Iterator[str]:
    if not store.sections:
        return
    yield "## When, where, with what\n"
    rows = [
        [name, c.date, c.commit, f"{section.seconds:.0f} s", f"{c.load_before:.1f}"]
        for name, section in store.sections.items()
        for c in [section.circumstances]
    ]
    every = [section.circumstances for section in store.sections.values()]
    machines = dict.fromkeys(c.machine for c in every)
    yield f"Machine: {'; and '.join(machines)}.\n"
    if len(machines) > 1:
        yield "**Sections come from different machines: ratios between them mean nothing.**\n"
    commands = ", ".join(f"`{command}`" for command in dict.fromkeys(c.command for c in every))
    yield f"Measured with {commands}.\n"
    newest = every[-1].versions
    yield f"Versions: {', '.join(f'{name} {number}' for name, number in newest.items())}.\n"
    yield table(["section", "date", "commit", "took", "load average before"], rows)


def _goals(data: Sections) -> Iterator[str]:
    found = goals(data)
    if not found:
        return
    reached = sum(goal.reached for goal in found)
    yield f"## Goals\n\n{reached} of {len(found)} are reached.\n"
    rows = [
        [goal.what, goal.figure, goal.bound, "reached" if goal.reached else "**not reached**"]
        for goal in found
    ]
    yield table(["goal", "measured", "wanted", ""], rows)


def _raw(data: Sections) -> Iterator[str]:
    yield "## Bare ONNX Runtime\n"
    yield "No server: each thread has sessions of its own and takes one image at a time.\n"
    rows = [
        [_WORKS[result["work"]] + _paused(result["pause_ms"]), *cells(_BARE_COLUMNS, result)]
        for result in data["raw"]["results"]
    ]
    yield table(["work", *_BARE_COLUMNS], rows)


def _paused(pause_ms: float) -> str:
    return f", {pause_ms:g} ms of sleep before each" if pause_ms else ""


def _this_server(data: Sections) -> Iterator[str]:
    bare = raw_result(data, "routed")
    yield "## This server\n"
    yield (
        "`over bare routed` compares with bare ONNX Runtime measured right before the row, in as "
        "many threads as there are clients, at most one a core.\n"
    )
    rows = [
        [
            measured["title"].removeprefix("this server, "),
            *_point_cells(point, bare),
            *cells(_EXPERTS, point),
        ]
        for measured in data["this-server"].values()
        for point in measured["points"]
    ]
    yield table(["asked by", *_POINT_COLUMNS, "experts"], rows)
    starts = ", ".join(f"{way['ready_s']:.2f}" for way in data["this-server"].values())
    yield f"From the start of the process until it was ready: {starts} s.\n"


def _point_cells(point: Mapping[str, Any], bare: Mapping[str, Any] | None) -> list[str]:
    bare_ms = point.get("bare_cpu_ms") or (bare and bare["cpu_ms_per_image"])
    ratio = f"{point['cpu_ms_per_image'] / bare_ms:.2f}" if bare_ms else ""
    return cells(_POINT_COLUMNS, {**point, "over_bare": ratio})


def _load(data: Sections) -> Iterator[str]:
    load = data["load"]
    yield "## Under load\n"
    yield (
        "Requests at random moments (Poisson), whether or not the server keeps up; raw pixels over "
        "HTTP, latency from the moment that a request was due. 100 % is what 64 clients get that "
        f"wait for their answers: {load['most_images_per_s']:,.0f} images/s. Good answers come "
        f"within {load['objective_ms']:g} ms, which is the server's `--latency-objective-ms` too.\n"
    )
    rows = []
    for name, key in (("70 %", "moderate"), ("300 %", "too_much")):
        report = load[key]
        requests = max(1, report["answered"] + report["refused"] + report["failed"])
        experts = report["mean_experts"]
        shares = {
            "refused": report["refused"] / requests,
            "failed": report["failed"] / requests,
            "mean_experts": "" if experts is None else f"{experts:.2f}",
        }
        rows.append([name, *cells(_LOAD_COLUMNS, {**report, **shares})])
    yield table(["load", *_LOAD_COLUMNS], rows)


def _memory(data: Sections) -> Iterator[str]:
    memory = data["memory"]
    yield "## Memory\n"
    yield (
        f"Resident when ready: {memory['fresh_mib']:.0f} MiB; after {memory['warm_requests']:,} "
        f"image files from 16 clients: {memory['warm_mib']:.1f} MiB; "
        f"after {memory['requests']:,} more: {memory['later_mib']:.1f} MiB.\n"
    )


def _servers(data: Sections) -> Iterator[str]:
    names = [name for name in OTHER_SERVERS if name in data]
    if not names:
        return
    bare = raw_result(data, "routed")
    yield "## Other servers\n"
    yield (
        "The same graphs on the same ONNX Runtime, except where the table says otherwise, each "
        "server set up as its own documentation recommends for a processor without accelerator. "
        "Their clients send what is listed below; compare PNG files with this server's PNG rows, "
        "gRPC with gRPC.\n"
    )
    rows: list[list[object]] = []
    for name in names:
        measured = data[name]
        work = "routed" if measured["routed"] else "all experts"
        if "not_run" in measured:
            rows.append([measured["title"], work, f"not run: {measured['not_run']}", *[""] * 6])
        rows += [
            [measured["title"], work, *_point_cells(point, bare)] for point in points(data, name)
        ]
        for clients, error in measured.get("failed", {}).items():
            rows.append([measured["title"], work, clients, f"failed: {error}", *[""] * 5])
    yield table(["server", "work", *_POINT_COLUMNS], rows)
    for name in names:
        measured = data[name]
        packages = ", ".join(measured["requirements"]) or "this project's own environment"
        ready = f"; ready after {measured['ready_s']:.1f} s" if "ready_s" in measured else ""
        yield f"- {measured['title']}: {measured['settings']}{ready} ({packages})."
    yield ""


def _int8(data: Sections) -> Iterator[str]:
    measured = data["int8"]
    bare = measured["raw"]
    yield "## int8\n"
    yield (
        "The same model, exported with `ride export --quantize int8`: bare ONNX Runtime does "
        f"{bare['images_per_s']:,.0f} images/s with {bare['threads']} threads, routed, at "
        f"{bare['cpu_ms_per_image']:.2f} ms of processor time an image. This server over gRPC:\n"
    )
    rows = [_point_cells(point, bare) for point in measured["points"]]
    columns = [c.replace("bare routed", "bare int8 routed") for c in _POINT_COLUMNS]
    yield table(columns, rows)


def _growth(data: Sections) -> Iterator[str]:
    yield "## How it grows\n"
    yield (
        "A ResNet-32 with three experts and random weights whose routers send every image on, so "
        "that each takes all three; raw pixels over HTTP, 4 clients unless the row says "
        "otherwise. p50 and p99 are of whole requests.\n"
    )
    columns = ["image size", "images a request", *_GROWTH_COLUMNS]
    rows = []
    for row in (row for rows in data["growth"].values() for row in rows):
        if "failed" in row:
            failed = [row["clients"], f"failed: {row['failed']}", *[""] * 4]
            rows.append([row["size"], row["batch"], *failed])
            continue
        rows.append([row["size"], row["batch"], *cells(_GROWTH_COLUMNS, row)])
    yield table(columns, rows)


_PARTS = {
    "raw": _raw,
    "this-server": _this_server,
    "load": _load,
    "memory": _memory,
    "other servers": _servers,
    "int8": _int8,
    "growth": _growth,
}
