"""`ride verify` as a shell sees it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.running.waiting import WAIT_S, wait_until
from tests.verify.conftest import EXAMPLES

Ride = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_server_is_compared_without_torch_and_pyarrow(
    repository: Path, server: RunningServer, tmp_path: Path
) -> None:
    """As with the serving install, which has neither: a fresh interpreter tells what was loaded."""
    report, json = tmp_path / "report.md", tmp_path / "report.json"
    arguments = ["verify", str(EXAMPLES), "--repository", str(repository)]
    arguments += ["--triton", server.grpc_address, "--report", str(report), "--json", str(json)]
    program = (
        f"import sys, ride\nsys.argv[1:] = {arguments!r}\n"
        "try:\n    ride.main()\nfinally:\n    print('loaded:', *sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    printed, _, loaded = done.stdout.partition("loaded:")
    assert "verify.session" in loaded.split()
    assert not set(loaded.split()) & {"torch", "torchvision", "pyarrow", "onnx"}
    assert f"12 images of {EXAMPLES}, version 1 of" in printed
    assert "No difference from the embedded engine." in printed
    assert "--triton" in report.read_text()
    assert json.read_text().startswith('{\n  "agree": true,')


def test_differences_are_exit_status_1(
    altered: Callable[..., Path], server: RunningServer, run_ride: Ride
) -> None:
    flags = ("--repository", altered(thresholds=[1.0, 1.0]), "--triton", server.grpc_address)
    done = run_ride("verify", EXAMPLES, *flags)
    assert done.returncode == 1
    assert "Differences from the embedded engine: " in done.stdout
    assert done.stderr == ""


def test_an_error_is_one_sentence(repository: Path, tmp_path: Path, run_ride: Ride) -> None:
    done = run_ride("verify", tmp_path, "--repository", repository, "--triton", "localhost:1")
    assert done.returncode == 1
    assert done.stderr.startswith("ride: no file below ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_shows_what_was_found_so_far_and_writes_nothing(
    repository: Path, server: RunningServer, tmp_path: Path
) -> None:
    table = pq.read_table(ROOT / "tests" / "data" / "cifar100" / "test.parquet")
    rows = 5 * list(range(len(table)))
    pq.write_table(table.take(rows), tmp_path / "many.parquet")
    command = [sys.executable, "-m", "ride", "verify", str(tmp_path / "many.parquet")]
    command += ["--repository", str(repository), "--triton", server.grpc_address]
    command += ["--report", str(tmp_path / "report.md")]
    before = images_answered(server)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        wait_until(lambda: images_answered(server) >= before + 256 or it.poll() is not None)
        it.send_signal(signal.SIGINT)
        printed, errors = it.communicate(timeout=WAIT_S)
    assert it.returncode == 130
    assert re.search(r"Stopped after [\d,]+ of 5,000 images\. So far:", printed)
    assert "Traceback" not in printed + errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.parquet"]


def images_answered(server: RunningServer) -> int:
    statistics = server.get("/v2/models/ride/stats").json()["model_stats"][0]
    count: int = statistics["inference_count"]
    return count
