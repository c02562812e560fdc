"""How many cores a process may use, of written control groups and of this process."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.cores import usable_cores

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PERIOD = 100_000

quotas = st.lists(st.none() | st.integers(1, 4 * CORES * PERIOD), min_size=1, max_size=4)
"""Of a group and of those below it, in microseconds a period."""


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_version_2(root: Path, quotas: list[int | None], tree: str = "") -> None:
    """A control group in each other, the process in the innermost."""
    folder = root / "sys/fs/cgroup" / tree
    for depth, quota in enumerate(quotas):
        limit = "max" if quota is None else str(quota)
        write(folder.joinpath(*["g"] * depth) / "cpu.max", f"{limit} {PERIOD}\n")
    write(root / "proc/self/cgroup", "0::/" + "/".join(["g"] * (len(quotas) - 1)) + "\n")


def write_version_1(root: Path, quotas: list[int | None], mounted: str, listed: str) -> None:
    folder = root / "sys/fs/cgroup" / mounted
    for depth, quota in enumerate(quotas):
        group = folder.joinpath(*["g"] * depth)
        write(group / "cpu.cfs_quota_us", f"{-1 if quota is None else quota}\n")
        write(group / "cpu.cfs_period_us", f"{PERIOD}\n")
    name = "/" + "/".join(["g"] * (len(quotas) - 1))
    write(root / "proc/self/cgroup", f"9:memory:/elsewhere\n4:{listed}:{name}\n0::/\n")


def least(quotas: list[int | None]) -> int:
    """The tightest quota counts, and a part of a core is one."""
    return min([CORES, *(math.ceil(quota / PERIOD) for quota in quotas if quota is not None)])


@given(quotas, st.sampled_from(["", "unified"]))
def test_the_tightest_quota_above_a_process_counts(quotas: list[int | None], tree: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_version_2(Path(root), quotas, tree)
        assert usable_cores(Path(root)) == least(quotas)


@given(quotas, st.sampled_from([("cpu", "cpu"), ("cpu,cpuacct", "cpu,cpuacct")]))
def test_quotas_of_the_first_version_count_alike(
    quotas: list[int | None], names: tuple[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_version_1(Path(root), quotas, *names)
        assert usable_cores(Path(root)) == least(quotas)


@pytest.mark.parametrize("name", ["/docker/0123abcd", "/../../kubepods/pod1", "/"])
def test_a_container_finds_its_quota_at_the_root_of_what_it_sees(tmp_path: Path, name: str) -> None:
    write_version_2(tmp_path, [PERIOD // 2])
    write(tmp_path / "proc/self/cgroup", f"0::{name}\n")
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(
    "limit", ["", "max", "max 100000", "100000", "0 100000", "100000 0", "-1 100000", "x y z", "\0"]
)
def test_what_is_no_quota_bounds_nothing(tmp_path: Path, limit: str) -> None:
    write_version_2(tmp_path, [None])
    write(tmp_path / "sys/fs/cgroup/cpu.max", limit)
    assert usable_cores(tmp_path) == CORES


@given(st.binary(max_size=60))
def test_no_list_of_groups_is_too_odd(listed: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_version_2(Path(root), [None])
        (Path(root) / "proc/self/cgroup").write_bytes(listed)
        assert usable_cores(Path(root)) == CORES


def test_without_control_groups_the_processors_of_the_process_count(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has it")
def test_processors_that_the_process_may_not_use_do_not_count(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
