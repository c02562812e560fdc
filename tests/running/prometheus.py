"""A real Prometheus with the repository's configuration, only faster: every second, not every 15.

It is the one on the PATH, or the one that `make prometheus` takes out of Debian's package.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.checkout import TOOLS
from benchmarks.ports import free_ports
from tests.checkout import ROOT
from tests.running.process import Process, assert_runs, running
from tests.running.waiting import WAIT_S, wait_until

CONFIGURATION = ROOT / "monitoring" / "prometheus"
WINDOW = "4s"
"""Of rates, in place of the minutes that the rules say: four scrapes."""


def find(program: str) -> str | None:
    """Where `prometheus` or `promtool` is, if anywhere."""
    unpacked = TOOLS / "prometheus" / "usr" / "bin" / program
    return str(unpacked) if unpacked.is_file() else shutil.which(program)


@dataclass(frozen=True)
class RunningPrometheus:
    """Its HTTP API."""

    client: httpx.Client

    def samples(self, expression: str) -> list[float]:
        """The values of an expression now, those that are numbers."""
        found = self.data("query", query=expression)
        values = (
            [found["result"]]
            if found["resultType"] == "scalar"
            else [series["value"] for series in found["result"]]
        )
        return [value for _, text in values if not math.isnan(value := float(text))]

    def without_data(self, expressions: Iterable[str]) -> list[str]:
        """Those that have no data, even after some scrapes more."""
        missing, deadline = list(expressions), time.monotonic() + WAIT_S
        while missing := [one for one in missing if not self.samples(one)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return missing

    def rules(self) -> list[dict[str, Any]]:
        """All rules that it has loaded."""
        return [rule for group in self.data("rules")["groups"] for rule in group["rules"]]

    def data(self, path: str, **query: Any) -> Any:
        """What the API answers; an expression that it can't read fails the test."""
        response = self.client.get(f"/api/v1/{path}", params=query)
        assert response.is_success, f"{query}: {response.text}"
        return response.json()["data"]


@contextmanager
def running_prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[RunningPrometheus]:
    """Start it in an empty folder, with one target (HOST:PORT) for each job that is named."""
    program = find("prometheus")
    assert program, "make prometheus"
    _write_configuration(folder, targets)
    (port,) = free_ports(1)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    log = folder / "prometheus.log"
    with (
        running(command, log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
    ):
        wait_until(lambda: _is_ready(client, process, log))
        yield RunningPrometheus(client)


def _is_ready(client: httpx.Client, process: Process, log: Path) -> bool:
    assert_runs(process, log)
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def _write_configuration(folder: Path, targets: Mapping[str, str]) -> None:
    for source in CONFIGURATION.rglob("*.yml"):
        text = source.read_text()
        text = re.sub(r"_interval: 15s", "_interval: 1s", text)
        text = re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", text)
        copy = folder / source.relative_to(CONFIGURATION)
        copy.parent.mkdir(exist_ok=True, parents=True)
        copy.write_text(text)
    for job in ("ride", "triton"):
        groups = [{"targets": [targets[job]]}] if job in targets else []
        (folder / "targets" / f"{job}.yml").write_text(json.dumps(groups))
