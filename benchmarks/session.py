"""What `ride bench` does, apart from reading its flags."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import perf_analyzer
from benchmarks.errors import BenchmarkError, ToolMissing
from benchmarks.page import page
from benchmarks.plan import Plan
from benchmarks.sections import Data, all_sections
from benchmarks.servers.catalogue import OTHER_SERVERS
from benchmarks.servers.server import environment_for
from benchmarks.store import Section, Store, provenance, write_whole
from serving.model.manifest_json import load_manifest
from serving.model.repository import latest_version
from serving.tracing.terminal import say

_IDLE = 0.5
"""Load average below which the machine is taken for idle."""


def bench_session(
    plan: Plan,
    output: Path,
    *,
    servers: Sequence[str],
    growth: bool,
    only: Sequence[str],
    resume: bool,
    command: str,
    console: Console,
) -> None:
    """Measure section by section; the JSON and the page are written after each.

    A section that fails leaves its earlier figures, if any, and the others go on.

    Args:
        plan: what to measure with.
        output: the page; the figures go into a `.json` beside it.
        servers: names of servers to compare with.
        growth: whether to measure how cost grows.
        only: names of the sections to measure; empty for all.
        resume: leave out sections that the JSON already has.
        command: as it was typed, for the page.
        console: for progress.

    Raises:
        BenchmarkError: if a name is unknown, a tool is missing or a section failed.
        ModelRepositoryError: if the repository can't be served.
    """
    for repository in (plan.repository, plan.int8):
        if repository is not None:
            load_manifest(repository, latest_version(repository))
    store = Store.open(output.with_suffix(".json"))
    sections = choose(servers, growth=growth, int8=plan.int8 is not None, only=only)
    if resume:
        sections = {
            name: measure for name, measure in sections.items() if name not in store.sections
        }
    warn_if_busy(os.getloadavg()[0], console)
    _install(sections, plan, console)
    failed = []
    for name, measure in sections.items():
        try:
            _measure(name, measure, plan, store, command, console)
        except BenchmarkError as error:  # the other sections may be fine
            console.print(f"{name}: {error}", style="red", markup=False)
            failed.append(name)
        write_whole(output, page(store))
    write_whole(output, page(store))
    say(console, f"Wrote {output}")
    if failed:
        raise BenchmarkError(
            f"not measured: {', '.join(failed)}; try again with --resume, which keeps the others"
        )


def choose(
    servers: Sequence[str], *, growth: bool, int8: bool, only: Sequence[str]
) -> dict[str, Callable[[Plan], Data]]:
    """The sections to measure.

    Raises:
        BenchmarkError: if there is no server or section of a name.
    """
    _require_known("server", servers, list(OTHER_SERVERS))
    if not only:
        return all_sections(servers, growth=growth, int8=int8)
    sections = all_sections(list(OTHER_SERVERS), growth=True, int8=int8)
    _require_known("section", only, list(sections))
    return {name: measure for name, measure in sections.items() if name in only}


def _require_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise BenchmarkError(f"there is no {kind} {name!r}; there are {', '.join(known)}")


def _install(sections: Collection[str], plan: Plan, console: Console) -> None:
    """Beforehand, so that nothing is measured while packages are unpacked."""
    if set(sections) - {"raw"}:  # which sends nothing
        with console.status("installing what measures"):
            perf_analyzer.install()
    for name in sections:
        if name in OTHER_SERVERS:
            with console.status(f"installing {name}"):
                try:
                    environment_for(OTHER_SERVERS[name], plan.tools)
                except ToolMissing as error:  # its section tells it to the page
                    console.print(f"{name}: {error}", style="yellow", markup=False)


def _measure(
    name: str,
    measure: Callable[[Plan], Data],
    plan: Plan,
    store: Store,
    command: str,
    console: Console,
) -> None:
    about, start = provenance(command), time.perf_counter()
    with console.status(name) as status:
        data = measure(replace(plan, say=status.update))
    store.put(name, Section(about, time.perf_counter() - start, data))
    console.print(f"{name}: {store.sections[name].seconds:.0f} s", highlight=False)


def warn_if_busy(load: float, console: Console) -> None:
    """Say so where other programs run."""
    if load > _IDLE:
        console.print(
            f"The machine is not idle (load average {load:.1f}): figures will be worse than true.",
            style="yellow",
        )
