"""The flag between two steps, with real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from serving.interrupt import InterruptFlag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_sets_the_flag(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with InterruptFlag() as flag:
        assert not flag.requested
        os.kill(os.getpid(), number)
        assert flag.requested
    assert signal.getsignal(number) is before


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell that starts the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_acts(heeded_ctrl_c: None) -> None:
    with InterruptFlag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_without_a_signal_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with InterruptFlag() as flag:
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert not flag.requested
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
