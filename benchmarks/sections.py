"""What `ride bench` measures, a section at a time: each returns plain values for its JSON.

Sections don't depend on each other, so each can be measured again alone. Ratios are made when the
page is written, from whatever the file holds.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import drive
from benchmarks.errors import BenchmarkError, LoadFailed
from benchmarks.plan import Plan
from benchmarks.process import machine, resident_bytes
from benchmarks.servers.catalogue import CONTENDERS
from benchmarks.servers.ride import PIXELS_WAY, PNG_WAY, WAYS, with_flags
from benchmarks.servers.server import (
    CHECKOUT,
    Contender,
    Running,
    environment_for,
    running,
)

Data = dict[str, Any]

_TRIAL_IMAGES = 200
_RAW_TIMEOUT_S = 600
_MODERATE, _TOO_MUCH = 0.7, 3.0
_MOST_CLIENTS = 64
_MEMORY_CLIENTS = 16
_PAUSE_MS = 3.0
_WARM_REQUESTS = 1_000
"""At most; no more than the memory test itself sends."""


def raw(plan: Plan) -> Data:
    """Bare ONNX Runtime: routed and with all experts, one thread a core and one alone."""
    cores = machine().cores
    points = [("routed", cores), ("routed", 1), ("all-experts", cores), ("one-graph", cores)]
    results = []
    for work, threads in dict.fromkeys(points):
        plan.say(f"bare ONNX Runtime, {work}, {threads} threads")
        trial = _raw(plan, work, threads, min(_TRIAL_IMAGES, len(plan.images)))
        images = plan.images.passes(trial["images_per_s"] * plan.duration_s)
        results.append(_raw(plan, work, threads, images))
    # What one client at a time can hope for: processors that rested are slower at first.
    results.append(_raw(plan, "routed", 1, len(plan.images), pause_ms=_PAUSE_MS))
    return {"results": results}


def _raw(plan: Plan, work: str, threads: int, images: int, pause_ms: float = 0.0) -> Data:
    command = [
        *(sys.executable, "-m", "benchmarks.raw", str(plan.repository.resolve())),
        *("--work", work, "--threads", str(threads)),
        *("--images", str(images), "--every", str(plan.every)),
        *("--pause-ms", str(pause_ms)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_RAW_TIMEOUT_S, cwd=CHECKOUT
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise LoadFailed(f"bare ONNX Runtime failed: {lines[-1]}")
    result: Data = json.loads(done.stdout)
    return result


def this_server(plan: Plan) -> Data:
    """This server over gRPC, HTTP and with image files, by some numbers of clients."""
    return {way.name: _this_server(plan, way) for way in WAYS}


def _this_server(plan: Plan, contender: Contender) -> Data:
    plan.say(f"{contender.title}: starting")
    points = []
    with running(
        contender, Path(sys.executable), plan.repository, plan.folder(contender.name)
    ) as server:
        for clients in plan.clients:
            plan.say(f"{contender.title}: {clients} clients")
            # Machines are noisy: the figure to compare with is from the same minute.
            threads = min(clients, machine().cores)
            bare = _raw(plan, "routed", threads, plan.images.passes(len(plan.images)))
            before = drive.counted(server)
            point = drive.closed(
                server, contender.way, plan.images, clients=clients, duration_s=plan.duration_s
            )
            experts = drive.counted(server).mean_experts_since(before)
            points.append(
                {
                    **asdict(point),
                    "mean_experts": experts,
                    "bare_cpu_ms": bare["cpu_ms_per_image"],
                    "bare_p50_ms": bare["p50_ms"],
                }
            )
        return {"title": contender.title, "ready_s": server.ready_s, "points": points}


def load(plan: Plan) -> Data:
    """How latency and goodput hold at 70 % and at 300 % of what this server can do."""
    python = Path(sys.executable)
    with running(WAYS[0], python, plan.repository, plan.folder("load")) as server:
        plan.say(f"most load: {_MOST_CLIENTS} clients")
        most = drive.closed(
            server, PIXELS_WAY, plan.images, clients=_MOST_CLIENTS, duration_s=plan.duration_s
        )
    hurried = with_flags(WAYS[0], f"--latency-objective-ms={plan.objective_ms}")
    with running(hurried, python, plan.repository, plan.folder("load")) as server:
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
    before = drive.counted(server)
    report = drive.open_(
        server,
        PIXELS_WAY,
        plan.images,
        requests_per_s=rate,
        duration_s=plan.duration_s,
        objective_ms=plan.objective_ms,
    )
    experts = drive.counted(server).mean_experts_since(before)
    return {
        **asdict(report),
        "mean_experts": None if math.isnan(experts) else experts,
        "generator_cores": report.generator_cpu_s / plan.duration_s,
    }


def memory(plan: Plan) -> Data:
    """Resident memory of this server: fresh, after some image files, after many more."""
    with running(WAYS[0], Path(sys.executable), plan.repository, plan.folder("memory")) as server:
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


def compare(plan: Plan, name: str) -> Data:
    """Another server; why not, where it can't be installed, started or asked."""
    contender = CONTENDERS[name]
    about: Data = {
        "title": contender.title,
        "settings": contender.settings,
        "requirements": list(contender.requirements),
        "routed": contender.routed,
    }
    try:
        return {**about, **_compare(plan, contender)}
    except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
        plan.say(f"{contender.title}: not run: {error}")
        return {**about, "not_run": str(error)}


def _compare(plan: Plan, contender: Contender) -> Data:
    plan.say(f"{contender.title}: installing, if it is not there yet")
    python = environment_for(contender, plan.tools)
    plan.say(f"{contender.title}: starting")
    with running(contender, python, plan.repository, plan.folder(contender.name)) as server:
        points, failed = [], {}
        for clients in plan.clients:
            plan.say(f"{contender.title}: {clients} clients")
            try:
                point = drive.closed(
                    server, contender.way, plan.images, clients=clients, duration_s=plan.duration_s
                )
            except LoadFailed as error:  # the other points may be fine
                failed[str(clients)] = str(error)
            else:
                points.append(asdict(point))
        return {"ready_s": server.ready_s, "points": points, "failed": failed}


def _int8(plan: Plan) -> Data:
    """The int8 export: bare ONNX Runtime, and this server over gRPC."""
    assert plan.int8 is not None
    quantised = replace(plan, repository=plan.int8)
    cores = machine().cores
    trial = _raw(quantised, "routed", cores, min(_TRIAL_IMAGES, len(plan.images)))
    images = plan.images.passes(trial["images_per_s"] * plan.duration_s)
    bare = _raw(quantised, "routed", cores, images)
    return {"raw": bare, **_this_server(quantised, WAYS[0])}


def all_sections(
    servers: Sequence[str], *, growth: bool, int8: bool
) -> dict[str, Callable[[Plan], Data]]:
    """Every section of a run by its name, in the order in which they are measured."""
    sections: dict[str, Callable[[Plan], Data]] = {
        "raw": raw,
        "this-server": this_server,
        "load": load,
        **{name: _comparison(name) for name in servers},
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


def _comparison(name: str) -> Callable[[Plan], Data]:
    return lambda plan: compare(plan, name)
