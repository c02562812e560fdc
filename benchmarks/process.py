"""What Linux knows of processes and of this machine: processor time, memory, instruction sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import ServerFailed
from serving.engine.cores import usable_cores

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "bf16",
    "i8mm",
)


@dataclass(frozen=True)
class Stat:
    """Of one process: its parent, and the processor time of it and of the children it outlived."""

    parent: int
    cpu_s: float


@dataclass(frozen=True)
class Hardware:
    """What figures depend on: the processor's name, its cores and what it can do."""

    processor: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_gib: float

    def __str__(self) -> str:
        sets = ", ".join(name.upper() for name in self.instruction_sets) or "no vector extensions"
        return f"{self.cores} cores of {self.processor} ({sets}), {self.memory_gib:.0f} GiB"


def parse_stat(text: str) -> Stat:
    """Read `/proc/PID/stat`; the name in brackets may hold anything, brackets too."""
    fields = text[text.rindex(")") + 1 :].split()
    # proc(5) counts from 1 and the two fields before are cut off: 4 is the parent; 14 to 17 are
    # user and system time, of the process with its threads and of children that were waited for.
    return Stat(parent=int(fields[1]), cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S)


def parse_memory(status: str) -> int:
    """Bytes of resident memory in `/proc/PID/status`; 0 for a process that has ended."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def parse_hardware(cpuinfo: str, meminfo: str, cores: int) -> Hardware:
    """Read `/proc/cpuinfo` and `/proc/meminfo`."""
    values: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    flags = (values.get("flags") or values.get("Features") or "").split()
    kibibytes = next(
        (int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemTotal:")), 0
    )
    return Hardware(
        processor=values.get("model name", "an unnamed processor"),
        cores=cores,
        instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
        memory_gib=kibibytes / 2**20,
    )


def hardware() -> Hardware:
    """Of this machine."""
    cpu, memory = ((PROC / name).read_text() for name in ("cpuinfo", "meminfo"))
    return parse_hardware(cpu, memory, usable_cores())


def family(pid: int) -> list[int]:
    """A process and all that descend from it.

    Raises:
        ServerFailed: if there is no such process.
    """
    stats = dict(_stats())
    if pid not in stats:
        raise ServerFailed("the server's process ended while it was measured")
    found = [pid]
    for member in found:  # grows while it is walked
        found += [child for child, stat in stats.items() if stat.parent == member]
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, that a process and its descendants have taken.

    Raises:
        ServerFailed: if there is no such process.
    """
    members = set(family(pid))
    return sum(stat.cpu_s for member, stat in _stats() if member in members)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; pages that they share count in each.

    Raises:
        ServerFailed: if there is no such process.
    """
    total = 0
    for member in family(pid):
        try:
            total += parse_memory((PROC / str(member) / "status").read_text())
        except OSError:
            continue  # it ended meanwhile
    return total


def _stats() -> Iterator[tuple[int, Stat]]:
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        yield int(entry.name), parse_stat(text)
