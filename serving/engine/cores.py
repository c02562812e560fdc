"""How many cores this process may keep busy: more threads than that are of no use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_TREES = {"": ("", "unified"), "cpu": ("cpu", "cpu,cpuacct")}
"""Where, below /sys/fs/cgroup, version 2 lies, and version 1 of the controller."""


def usable_cores(root: Path = Path("/")) -> int:
    """The processors that this process may run on, as far as its CPU quota reaches; at least 1.

    The affinity (`taskset`, cpusets) says which processors, the quotas of its control groups how
    much of their time; containers are given either. A part of a core counts as one.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    known = hasattr(os, "sched_getaffinity")  # on Linux; nothing else has control groups
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """In cores, of each control group above this process that has one."""
    for group in _control_groups(root):
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            yield from _quota(" ".join(_text(group / file) for file in files))


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that may bound this process's time, from its own to the outermost.

    In a container its own group is the root of the tree, and /proc may still name it as the host
    does: folders that are not there are passed over by whoever reads them.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, name = (*line.split(":", 2), "", "")[:3]
        for controller in {"", "cpu"} & set(controllers.split(",")):
            group = PurePosixPath("/", name).relative_to("/")
            for tree in _TREES[controller]:
                for folder in (group, *group.parents):
                    yield root / "sys/fs/cgroup" / tree / folder


def _quota(text: str) -> Iterator[float]:
    """Of `<quota> <period>` in microseconds; none where there is no limit (`max`, -1)."""
    quota, period = (*text.split(), "", "")[:2]
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        yield int(quota) / int(period)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""
