"""What `ride bench` measures, a section at a time: each returns plain values for its JSON.

Sections don't depend on each other, so each can be measured again alone. Ratios are made when the
page is written, from whatever the file holds.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from benchmarks import drive
from benchmarks.errors import BenchmarkError, LoadFailed
from benchmarks.http_load import OpenLoop, load_http
from benchmarks.plan import Plan
from benchmarks.process import hardware, resident_bytes
from benchmarks.program import in_own_process
from benchmarks.raw import run_bare
from benchmarks.servers.catalogue import OTHER_SERVERS
from benchmarks.servers.ride import PIXELS_WAY, PNG_WAY, WAYS, with_flags
from benchmarks.servers.server import HttpWay, ProtocolWay, Running, ServerSpec, running

Data = dict[str, Any]

_BARE_TIMEOUT_S = 600
_MODERATE, _TOO_MUCH = 0.7, 3.0
_MOST_CLIENTS = 64
_MEMORY_CLIENTS = 16
_PAUSE_MS = 3.0
_WARM_REQUESTS = 1_000
"""At most; no more than the memory test itself sends."""


def raw(plan: Plan) -> Data:
    """Bare ONNX Runtime: routed and with all experts, one thread a core and one alone."""
    cores = hardware().cores
    points = [("routed", cores), ("routed", 1), ("all-experts", cores), ("one-graph", cores)]
    results = []
    for work, threads in dict.fromkeys(points):
        plan.say(f"bare ONNX Runtime, {work}, {threads} threads")
        results.append(_bare(plan, work, threads))
    # What one client at a time can hope for: processors that rested are slower at first.
    results.append(_bare(plan, "routed", 1, len(plan.images), pause_ms=_PAUSE_MS))
    return {"results": results}


def _bare(
    plan: Plan, work: str, threads: int, images: int | None = None, pause_ms: float = 0.0
) -> Data:
    """Of so many images, or of as many as take about as long as a point of a table."""
    task = (work, plan.repository, plan.images, threads)
    run = partial(run_bare, count=images, pause_ms=pause_ms, duration_s=plan.duration_s)
    failed = "bare ONNX Runtime failed"
    return asdict(in_own_process(run, *task, failed=failed, timeout_s=_BARE_TIMEOUT_S))


def this_server(plan: Plan) -> Data:
    """This server over gRPC, HTTP and with image files, by some numbers of clients."""
    return {way.name: _this_server(plan, way) for way in WAYS}


def _this_server(plan: Plan, spec: ServerSpec) -> Data:
    plan.say(f"{spec.title}: starting")
    points = []
    with running(spec, plan.repository) as server:
        for clients in plan.clients:
            plan.say(f"{spec.title}: {clients} clients")
            # Machines are noisy: the figure to compare with is from the same minute.
            threads = min(clients, hardware().cores)
            bare = _bare(plan, "routed", threads, len(plan.images))
            before = drive.metrics(server)
            point = asdict(_closed(plan, server, spec.way, clients))
            points.append(
                {
                    **point,
                    "mean_experts": drive.mean_experts(before, drive.metrics(server)),
                    "bare_cpu_ms": bare["cpu_ms_per_image"],
                    "bare_p50_ms": bare["p50_ms"],
                }
            )
        return {"title": spec.title, "ready_s": server.ready_s, "points": points}


def _closed(plan: Plan, server: Running, way: HttpWay | ProtocolWay, clients: int) -> drive.Point:
    return drive.closed(server, way, plan.images, clients=clients, duration_s=plan.duration_s)


def load(plan: Plan) -> Data:
    """How latency and goodput hold at 70 % and at 300 % of what this server can do."""
    with running(WAYS[0], plan.repository) as server:
        plan.say(f"most load: {_MOST_CLIENTS} clients")
        most = _closed(plan, server, PIXELS_WAY, _MOST_CLIENTS)
    hurried = with_flags(WAYS[0], f"--latency-objective-ms={plan.objective_ms}")
    with running(hurried, plan.repository) as server:
        plan.say("70 % of it, open loop")
        moderate = _open(plan, server, most.images_per_s * _MODERATE)
        plan.say("300 % of it, open loop")
        too_much = _open(plan, server, most.images_per_s * _TOO_MUCH)
    return {
        "most_images_per_s": most.images_per_s,
        "objective_ms": plan.objective_ms,
        "moderate": moderate,
        "too_much": too_much,
    }


def _open(plan: Plan, server: Running, rate: float) -> Data:
    before = drive.metrics(server)
    loop = OpenLoop(rate, plan.duration_s, plan.objective_ms)
    report = load_http(PIXELS_WAY.endpoint(server), PIXELS_WAY.bodies(plan.images), loop)
    return {
        **asdict(report),
        "mean_experts": drive.mean_experts(before, drive.metrics(server)),
        "generator_cores": report.generator_cpu_s / plan.duration_s,
    }


def memory(plan: Plan) -> Data:
    """Resident memory of this server: fresh, after some image files, after many more."""
    with running(WAYS[0], plan.repository) as server:
        fresh, warm = resident_bytes(server.pid), min(_WARM_REQUESTS, plan.memory_requests)
        after = []
        for requests in (warm, plan.memory_requests):
            plan.say(f"memory: {requests:,} image files")
            drive.closed(
                server,
                PNG_WAY,
                plan.images,
                clients=_MEMORY_CLIENTS,
                duration_s=0,
                requests=requests,
            )
            after.append(resident_bytes(server.pid))
    return {
        "warm_requests": warm,
        "requests": plan.memory_requests,
        "fresh_mib": fresh / 2**20,
        "warm_mib": after[0] / 2**20,
        "later_mib": after[1] / 2**20,
    }


def other_server(plan: Plan, name: str) -> Data:
    """Another server; why not, where it can't be installed, started or asked."""
    spec = OTHER_SERVERS[name]
    about: Data = {
        "title": spec.title,
        "settings": spec.settings,
        "requirements": list(spec.requirements),
        "routed": spec.routed,
    }
    try:
        return {**about, **_other_server(plan, spec)}
    except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
        plan.say(f"{spec.title}: not run: {error}")
        return {**about, "not_run": str(error)}


def _other_server(plan: Plan, spec: ServerSpec) -> Data:
    plan.say(f"{spec.title}: installing, if it is not there yet, and starting")
    with running(spec, plan.repository, plan.tools) as server:
        points, failed = [], {}
        for clients in plan.clients:
            plan.say(f"{spec.title}: {clients} clients")
            try:
                points.append(asdict(_closed(plan, server, spec.way, clients)))
            except LoadFailed as error:  # the other points may be fine
                failed[str(clients)] = str(error)
        return {"ready_s": server.ready_s, "points": points, "failed": failed}


def _int8(plan: Plan) -> Data:
    """The int8 export: bare ONNX Runtime, and this server over gRPC."""
    assert plan.int8 is not None
    quantised = replace(plan, repository=plan.int8)
    bare = _bare(quantised, "routed", hardware().cores)
    return {"raw": bare, **_this_server(quantised, WAYS[0])}


def all_sections(
    servers: Sequence[str], *, growth: bool, int8: bool
) -> dict[str, Callable[[Plan], Data]]:
    """Every section of a run by its name, in the order in which they are measured."""
    sections: dict[str, Callable[[Plan], Data]] = {
        "raw": raw,
        "this-server": this_server,
        "load": load,
        **{name: partial(other_server, name=name) for name in servers},
    }
    if int8:
        sections["int8"] = _int8
    if growth:
        sections["growth"] = _growth
    sections["memory"] = memory
    return sections


def _growth(plan: Plan) -> Data:
    from benchmarks.growth import growth  # noqa: PLC0415 needs torch

    return growth(plan)
