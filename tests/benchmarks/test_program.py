"""Work in a process of its own: what it returns, and each way in which it may end otherwise."""

from __future__ import annotations

import math
import os
import time

import pytest

from benchmarks.errors import LoadFailed, LoadTimedOut
from benchmarks.program import in_own_process


def test_work_runs_elsewhere_and_its_result_comes_back() -> None:
    assert in_own_process(os.getpid, failed="work failed", timeout_s=60) != os.getpid()


def test_an_error_of_the_work_is_told() -> None:
    with pytest.raises(LoadFailed, match="^work failed: math domain error$"):
        in_own_process(math.sqrt, -1.0, failed="work failed", timeout_s=60)


def test_work_that_takes_too_long_is_ended() -> None:
    with pytest.raises(LoadTimedOut, match="took more than 0.5 s"):
        in_own_process(time.sleep, 3_600, failed="work failed", timeout_s=0.5)


def test_a_process_that_dies_is_not_waited_for() -> None:
    with pytest.raises(LoadFailed, match="its process died") as died:
        in_own_process(os._exit, 1, failed="work failed", timeout_s=3_600)
    assert not isinstance(died.value, LoadTimedOut)
