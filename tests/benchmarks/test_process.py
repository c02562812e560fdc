"""What is read from /proc, on texts of it and on real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.errors import ServerFailed
from benchmarks.process import (
    cpu_seconds,
    family,
    hardware,
    parse_hardware,
    parse_memory,
    parse_stat,
    resident_bytes,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.mark.parametrize("name", ["ride", "a b) (c", ")"])
def test_the_name_of_a_process_may_hold_anything(name: str) -> None:
    fields = ["S", "77", *["0"] * 9, "100", "50", "30", "20", *["9"] * 30]
    stat = parse_stat(f"123 ({name}) {' '.join(fields)}")
    assert stat.parent == 77
    assert stat.cpu_s * 100 == pytest.approx(200)  # user, system, and both of dead children


def test_memory_is_resident_bytes() -> None:
    assert parse_memory("Name:\tride\nVmSize:\t  900 kB\nVmRSS:\t    120 kB\n") == 120 * 1024
    assert parse_memory("Name:\tgone\nState:\tZ (zombie)\n") == 0


def test_a_machine_is_named_with_what_it_can_do() -> None:
    cpuinfo = "processor: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f amx\nflags: none\n"
    found = parse_hardware(cpuinfo, "MemTotal:       25165824 kB\nMemFree: 1 kB\n", 4)
    assert str(found) == "4 cores of Some CPU (AVX2, AVX512F), 24 GiB"


def test_a_machine_that_tells_nothing_has_no_name() -> None:
    assert str(parse_hardware("", "", 1)).startswith("1 cores of an unnamed processor (no vector")


@linux
def test_this_machine_is_one() -> None:
    assert hardware().cores >= 1
    assert hardware().memory_gib > 0


BUSY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
memory = bytearray(b"x" * (60 << 20))
until = time.process_time() + 0.5
while time.process_time() < until: pass
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


@linux
def test_a_busy_process_is_measured_with_its_children() -> None:
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        child = int(process.stdout.readline())
        assert family(process.pid) == [process.pid, child]
        assert 0.4 < cpu_seconds(process.pid) < 30
        assert resident_bytes(process.pid) > 60 << 20
        assert cpu_seconds(child) < cpu_seconds(process.pid)
        process.stdin.close()
    with pytest.raises(ServerFailed, match="ended"):
        cpu_seconds(process.pid)
