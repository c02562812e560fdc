"""docs/benchmarks.md, made of the JSON beside it: every figure and every verdict is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.goals import Sections, goals, points, raw_result
from benchmarks.servers.catalogue import CONTENDERS
from benchmarks.store import Store

_WORKS = {
    "routed": "routed: images stop at their expert",
    "all-experts": "all experts, a graph each",
    "one-graph": "all experts, one merged graph",
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
    parts = [
        _INTRODUCTION,
        *_circumstances(store),
        *_goals(data),
        *_raw(data),
        *_this_server(data),
        *_load(data),
        *_memory(data),
        *_servers(data),
        *_int8(data),
        *_growth(data),
    ]
    return "\n".join(parts)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


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
    if "raw" not in data:
        return
    yield "## Bare ONNX Runtime\n"
    yield "No server: each thread has sessions of its own and takes one image at a time.\n"
    rows = [
        [
            _WORKS[result["work"]] + _paused(result["pause_ms"]),
            result["threads"],
            f"{result['images_per_s']:,.0f}",
            f"{result['cpu_ms_per_image']:.2f}",
            f"{result['mean_experts']:.2f}",
            f"{result['p50_ms']:.2f}",
            f"{result['p99_ms']:.2f}",
        ]
        for result in data["raw"]["results"]
    ]
    columns = ["work", "threads", "images/s", "CPU ms an image", "experts", "p50 ms", "p99 ms"]
    yield table(columns, rows)


def _paused(pause_ms: float) -> str:
    return f", {pause_ms:g} ms of sleep before each" if pause_ms else ""


def _this_server(data: Sections) -> Iterator[str]:
    if "this-server" not in data:
        return
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
            f"{point['mean_experts']:.2f}",
        ]
        for measured in data["this-server"].values()
        for point in measured["points"]
    ]
    yield table(["asked by", *_POINT_COLUMNS, "experts"], rows)
    starts = ", ".join(f"{way['ready_s']:.2f}" for way in data["this-server"].values())
    yield f"From the start of the process until it was ready: {starts} s.\n"


_POINT_COLUMNS = (
    "clients",
    "images/s",
    "p50 ms",
    "p99 ms",
    "CPU ms an image",
    "over bare routed",
    "resident MiB",
)


def _point_cells(point: Mapping[str, Any], bare: Mapping[str, Any] | None) -> list[str]:
    bare_ms = point.get("bare_cpu_ms") or (bare and bare["cpu_ms_per_image"])
    ratio = f"{point['cpu_ms_per_image'] / bare_ms:.2f}" if bare_ms else ""
    return [
        str(point["clients"]),
        f"{point['images_per_s']:,.0f}",
        f"{point['p50_ms']:.2f}",
        f"{point['p99_ms']:.2f}",
        f"{point['cpu_ms_per_image']:.2f}",
        ratio,
        f"{point['resident_mib']:,.0f}",
    ]


def _load(data: Sections) -> Iterator[str]:
    if "load" not in data:
        return
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
        requests = report["answered"] + report["refused"] + report["failed"]
        experts = report["mean_experts"]
        rows.append(
            [
                name,
                f"{report['offered_per_s']:,.0f}",
                f"{report['answered_per_s']:,.0f}",
                f"{report['within_objective_per_s']:,.0f}",
                f"{report['refused'] / max(1, requests):.1%}",
                f"{report['failed'] / max(1, requests):.1%}",
                f"{report['p50_ms']:.1f}",
                f"{report['p99_ms']:.1f}",
                "" if experts is None else f"{experts:.2f}",
                f"{report['generator_cores']:.2f}",
            ]
        )
    columns = ["load", "offered/s", "answered/s", "good/s", "refused", "failed", "p50 ms", "p99 ms"]
    yield table([*columns, "experts", "cores that the generator took"], rows)


def _memory(data: Sections) -> Iterator[str]:
    if "memory" not in data:
        return
    memory = data["memory"]
    yield "## Memory\n"
    yield (
        f"Resident when ready: {memory['fresh_mib']:.0f} MiB; after {memory['warm_requests']:,} "
        f"image files from 16 clients: {memory['warm_mib']:.1f} MiB; "
        f"after {memory['requests']:,} more: {memory['later_mib']:.1f} MiB.\n"
    )


def _servers(data: Sections) -> Iterator[str]:
    names = [name for name in CONTENDERS if name in data]
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
    if "int8" not in data:
        return
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
    if "growth" not in data:
        return
    yield "## How it grows\n"
    yield (
        "A ResNet-32 with three experts and random weights whose routers send every image on, so "
        "that each takes all three; raw pixels over HTTP, 4 clients unless the row says "
        "otherwise. p50 and p99 are of whole requests.\n"
    )
    columns = ["image size", "images a request", *_POINT_COLUMNS[:5], "resident MiB"]
    rows = []
    for row in (row for rows in data["growth"].values() for row in rows):
        if "failed" in row:
            failed = [row["clients"], f"failed: {row['failed']}", *[""] * 4]
            rows.append([row["size"], row["batch"], *failed])
            continue
        cells = _point_cells(row, None)
        rows.append([row["size"], row["batch"], *cells[:5], cells[6]])
    yield table(columns, rows)
