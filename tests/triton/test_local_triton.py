"""`python -m benchmarks local-triton`, which is `make triton`, tells where it listens."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.running.process import running
from tests.running.waiting import WAIT_S, wait_until

ADDRESS = re.compile(r"^  (HTTP|metrics) +(http://127\.0\.0\.1:\d+\S*)$", re.MULTILINE)


def test_it_starts_on_free_ports_and_stops_at_ctrl_c(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "benchmarks", "local-triton", str(repository)]
    with running(command, log) as process:
        wait_until(lambda: "Triton is ready" in log.read_text() or process.poll() is not None)
        found = dict(ADDRESS.findall(log.read_text()))
        assert httpx.get(f"{found['HTTP']}/v2/models/ride/ready").is_success
        assert "ride_model_info" in httpx.get(found["metrics"]).text
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0, log.read_text()


def test_what_it_can_not_serve_ends_with_triton_s_own_status(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "local-triton", str(tmp_path / "nothing")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "nothing" in done.stdout + done.stderr
